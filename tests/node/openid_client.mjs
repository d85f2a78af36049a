// A program with openid-client, which checks strictly what a server answers, and with oauth4webapi beneath it.

import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import { converse, sendPerson, told } from './conversation.mjs';

const insecure = { [oauth.allowInsecureRequests]: true }; // http on this machine
const issuer = new URL(told.issuer);
let config, code, tokens;

const methods = {
  none: () => openid.None(),
  client_secret_basic: () => openid.ClientSecretBasic(told.secret),
  client_secret_post: () => openid.ClientSecretPost(told.secret),
  private_key_jwt: async () => {
    const key = { kty: told.key.kty, crv: told.key.crv, x: told.key.x, y: told.key.y, d: told.key.d };
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
    return openid.PrivateKeyJwt(await crypto.subtle.importKey('jwk', key, algorithm, false, ['sign']));
  },
};

async function begin({ method, algorithm = 'oidc' }) {
  const execute = [openid.allowInsecureRequests, openid.enableNonRepudiationChecks];
  const proof = await methods[method]();
  config = await openid.discovery(issuer, told.client_id, undefined, proof, { algorithm, execute });
  return config.serverMetadata();
}

function shown() {
  return { ...tokens, claims: tokens.claims() ?? null };
}

await converse({
  // RFC 8414 and OpenID discovery, each with its own rules for the address
  discover: async ({ algorithm }) => {
    const answer = await oauth.discoveryRequest(issuer, { algorithm, ...insecure });
    return oauth.processDiscoveryResponse(issuer, answer);
  },
  resource: async ({ url }) => {
    const answer = await oauth.resourceDiscoveryRequest(new URL(url), insecure);
    return oauth.processResourceDiscoveryResponse(new URL(url), answer);
  },
  register: async ({ metadata }) => {
    const execute = [openid.allowInsecureRequests];
    const proof = metadata.token_endpoint_auth_method === 'none' ? openid.None() : undefined; // else with its secret
    config = await openid.dynamicClientRegistration(issuer, metadata, proof, { execute });
    return config.clientMetadata();
  },
  begin,
  code: async ({ scope, resource, callback, details, pushed = false }) => {
    const verifier = openid.randomPKCECodeVerifier();
    const asked = {
      scope,
      resource,
      redirect_uri: callback,
      state: openid.randomState(),
      code_challenge: await openid.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    };
    const isSignIn = scope.split(' ').includes('openid');
    if (isSignIn) asked.nonce = openid.randomNonce();
    if (details) asked.authorization_details = JSON.stringify(details);
    const address = pushed
      ? await openid.buildAuthorizationUrlWithPAR(config, asked)
      : openid.buildAuthorizationUrl(config, asked);
    code = { landed: await sendPerson(address), verifier, asked, isSignIn };
    const checks = { pkceCodeVerifier: verifier, expectedState: asked.state, idTokenExpected: isSignIn };
    if (isSignIn) checks.expectedNonce = asked.nonce;
    tokens = await openid.authorizationCodeGrant(config, code.landed, checks, { resource });
    return { ...shown(), parameters: [...address.searchParams.keys()] };
  },
  userinfo: () => openid.fetchUserInfo(config, tokens.access_token, tokens.claims().sub),
  // RFC 9068 §4, as a resource server checks it
  check: ({ resource }) => {
    const call = new Request(resource, { headers: { authorization: `Bearer ${tokens.access_token}` } });
    return oauth.validateJwtAccessToken(config.serverMetadata(), call, resource, insecure);
  },
  call: async ({ url }) => {
    const answer = await openid.fetchProtectedResource(config, tokens.access_token, new URL(url), 'GET');
    return answer.json();
  },
  refresh: async () => {
    tokens = await openid.refreshTokenGrant(config, tokens.refresh_token);
    return shown();
  },
  introspect: () => openid.tokenIntrospection(config, tokens.access_token),
  revoke: () => openid.tokenRevocation(config, tokens.refresh_token),
  itself: async ({ scope, resource }) => {
    tokens = await openid.clientCredentialsGrant(config, { scope, resource });
    return shown();
  },
  inbox: async ({ scope, resource, person, message }) => {
    const asked = { scope, resource, login_hint: person, binding_message: message };
    const answer = await openid.initiateBackchannelAuthentication(config, asked);
    await sendPerson(told.issuer); // nobody is sent anywhere: they find it in their inbox
    tokens = await openid.pollBackchannelAuthenticationGrant(config, answer);
    return shown();
  },
  device: async ({ scope, resource }) => {
    const answer = await openid.initiateDeviceAuthorization(config, { scope, resource });
    await sendPerson(answer.verification_uri_complete);
    tokens = await openid.pollDeviceAuthorizationGrant(config, answer);
    return shown();
  },
});
