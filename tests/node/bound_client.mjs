// A program with openid-client that proves its key with each request (RFC 9449), as a high-assurance agent must.

import * as openid from 'openid-client';
import { converse, sendPerson, told } from './conversation.mjs';

const resource = { resource: told.resource };
let config, DPoP, tokens;

function shown() {
  return { ...tokens, claims: tokens.claims() ?? null };
}

await converse({
  begin: async ({ algorithm }) => {
    const { kty, crv, x, y, d } = told.key;
    const curve = { name: 'ECDSA', namedCurve: 'P-256' };
    const key = await crypto.subtle.importKey('jwk', { kty, crv, x, y, d }, curve, false, ['sign']);
    const execute = [openid.allowInsecureRequests, openid.enableNonRepudiationChecks];
    const proof = openid.PrivateKeyJwt(key);
    config = await openid.discovery(new URL(told.issuer), told.client_id, undefined, proof, { execute });
    DPoP = openid.getDPoPHandle(config, await openid.randomDPoPKeyPair(algorithm));
    return DPoP.calculateThumbprint();
  },
  code: async ({ scope, pushed = true }) => {
    const verifier = openid.randomPKCECodeVerifier();
    const asked = {
      ...resource,
      scope,
      redirect_uri: told.callback,
      state: openid.randomState(),
      nonce: openid.randomNonce(),
      code_challenge: await openid.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    };
    const address = pushed
      ? await openid.buildAuthorizationUrlWithPAR(config, asked, { DPoP })
      : openid.buildAuthorizationUrl(config, asked);
    const landed = await sendPerson(address);
    const checks = { pkceCodeVerifier: verifier, expectedState: asked.state, expectedNonce: asked.nonce };
    tokens = await openid.authorizationCodeGrant(config, landed, checks, resource, { DPoP });
    return shown();
  },
  refresh: async () => {
    tokens = await openid.refreshTokenGrant(config, tokens.refresh_token, resource, { DPoP });
    return shown();
  },
  userinfo: () => openid.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP }),
  call: async ({ url, bound = true }) => {
    const options = bound ? { DPoP } : undefined;
    const answer = await openid.fetchProtectedResource(
      config, tokens.access_token, new URL(url), 'GET', undefined, undefined, options,
    );
    return answer.json();
  },
  introspect: () => openid.tokenIntrospection(config, tokens.access_token),
});
