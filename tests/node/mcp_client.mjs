// An MCP host made of an official SDK for TypeScript. It knows the address of one server, and what it is told about itself.

import { randomUUID } from 'node:crypto';
import { converse, sendPerson, told } from './conversation.mjs';

const isV2 = told.sdk === '@modelcontextprotocol/client';
const parts = isV2 ? [''] : ['/client/index.js', '/client/streamableHttp.js', '/client/auth.js', '/client/auth-extensions.js'];
const found = await Promise.allSettled(parts.map((part) => import(told.sdk + part))); // the oldest has no extensions
const sdk = Object.assign({}, ...found.map((one) => one.value));

/** What a host keeps: its registration, its tokens and the verifier of the request that is under way. */
const kept = {
  redirectUrl: told.callback,
  clientMetadataUrl: told.document,
  clientMetadata: {
    client_name: told.name,
    redirect_uris: [told.callback],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
    application_type: 'native',
  },
  state: () => (kept.sentState = randomUUID()),
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.held,
  saveTokens: (tokens) => void (kept.held = tokens),
  redirectToAuthorization: (address) => void (kept.sentTo = address),
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  codeVerifier: () => kept.verifier,
  saveDiscoveryState: (found) => void (kept.found = found),
  discoveryState: () => kept.found,
  invalidateCredentials: (what) => {
    if (what === 'all' || what === 'client') kept.client = undefined;
    if (what === 'all' || what === 'tokens') kept.held = undefined;
  },
  client: told.client,
};

if (told.bound) {
  const session = sdk.DpopSession.create(); // one key for as long as the host runs
  kept.dpop = () => session;
}

/** What an agent without a person uses: its secret, or its private key. */
function byItself({ client_id: clientId, issuer: expectedIssuer, secret: clientSecret, key: privateKey }) {
  return clientSecret
    ? new sdk.ClientCredentialsProvider({ clientId, clientSecret, expectedIssuer })
    : new sdk.PrivateKeyJwtProvider({ clientId, privateKey, algorithm: 'ES256', expectedIssuer });
}

/** What an agent uses whose organisation's sign-in provider decides: the provider's letter instead of a browser. */
function byLetter({ client_id: clientId, secret: clientSecret, issuer: expectedIssuer, provider: idpUrl, id_token: idToken }) {
  const assertion = async ({ authorizationServerUrl: audience, resourceUrl: resource, scope, fetchFn }) => {
    const asked = { idpUrl, audience, resource, idToken, clientId, clientSecret: 'at-the-provider', scope, fetchFn };
    return (await sdk.discoverAndRequestJwtAuthGrant(asked)).jwtAuthGrant;
  };
  return new sdk.CrossAppAccessProvider({ assertion, clientId, clientSecret, expectedIssuer });
}

const authProvider = told.itself ? byItself(told.itself) : told.letter ? byLetter(told.letter) : kept;
let client, transport;

function begin() {
  const negotiation = isV2 ? { versionNegotiation: { mode: told.mode } } : {};
  client = new sdk.Client({ name: 'real-client', version: '1' }, negotiation);
  transport = new sdk.StreamableHTTPClientTransport(new URL(told.url), { authProvider });
  return client.connect(transport);
}

/** Do it; if the SDK wants the person first, send them to the browser and do it again. */
async function withPerson(act) {
  try {
    return await act();
  } catch (problem) {
    if (!(problem instanceof sdk.UnauthorizedError)) throw problem;
    const landed = (await sendPerson(kept.sentTo)).searchParams;
    if (landed.get('state') !== kept.sentState) throw new Error('another state');
    if (isV2) {
      await transport.finishAuth(landed); // checks `iss` and `error` itself
    } else {
      if (landed.has('error')) throw Object.assign(new Error('refused'), { code: landed.get('error') });
      await transport.finishAuth(landed.get('code'));
    }
    return await act();
  }
}

await converse({
  connect: async () => {
    await withPerson(begin);
    const version = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
    return { version, client_id: authProvider.clientInformation().client_id };
  },
  tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
  call: ({ name, args }) => withPerson(() => client.callTool({ name, arguments: args ?? {} })),
  held: () => authProvider.tokens(),
  // What a host does whose SDK tries a refresh where only the person can help
  forget: () => void kept.invalidateCredentials('tokens'),
  close: () => client.close(),
});
