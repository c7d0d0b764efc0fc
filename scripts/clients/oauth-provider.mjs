// The provider of scripts/oauth-check: npm's `oidc-provider` with short access tokens, refresh tokens that
// rotate, and a path that takes all consents back, as a user does in their account.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { ISSUER, CALLBACK, SECRET, MODULES } = process.env;
const resolve = createRequire(`${MODULES}/package.json`).resolve;
const { default: Provider } = await import(pathToFileURL(resolve("oidc-provider")));

const provider = new Provider(ISSUER, {
  clients: [{
    client_id: "mcpm", client_secret: SECRET, redirect_uris: [CALLBACK], response_types: ["code"],
    grant_types: ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: "client_secret_basic",
  }],
  cookies: { keys: ["a key of the test"] },
  pkce: { required: () => true, methods: ["S256"] },
  features: { devInteractions: { enabled: true }, revocation: { enabled: true }, introspection: { enabled: true } },
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  ttl: { AccessToken: 4, RefreshToken: 3600, Grant: 3600, Session: 3600, Interaction: 600, AuthorizationCode: 60 },
});

const grants = new Set();
provider.on("grant.success", (ctx) => grants.add(ctx.oidc.entities.Grant?.jti));
provider.use(async (ctx, next) => {
  if (ctx.path !== "/take-back") return next();
  for (const id of grants) {
    for (const model of [provider.AccessToken, provider.RefreshToken]) await model.revokeByGrantId(id);
    await (await provider.Grant.find(id))?.destroy();
  }
  grants.clear();
  ctx.body = "taken back";
});
provider.listen(Number(new URL(ISSUER).port), "127.0.0.1");
