//! Why a JWT does not count. Whoever showed it hears none of this; the log does.

/// Why a JWT does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// More bytes than a token may have.
    #[error("it is larger than 8 KiB")]
    TooLarge,
    /// Not three parts of base64url, or not JSON objects of unique members of the right types.
    #[error("it is not formed as a signed JWT is")]
    Form,
    /// Another kind of JWT, such as a logout token.
    #[error("its `typ` is not that of an access token")]
    Type,
    /// `crit`: it wants something understood that is not.
    #[error("it has `crit`, and nothing there is understood")]
    Critical,
    /// Not one of those that its provider may use.
    #[error("its algorithm is not one that the provider may use")]
    Algorithm,
    /// No provider has this `iss`.
    #[error("no identity provider has its `iss`")]
    Issuer,
    /// It is for somebody else.
    #[error("`aud` is not ours")]
    Audience,
    /// `exp` is over.
    #[error("it has expired")]
    Expired,
    /// `nbf` or `iat` is yet to come.
    #[error("its time is yet to come")]
    Early,
    /// The claim that names the user is missing, or is no user id.
    #[error("its user's claim is missing or no user id")]
    User,
    /// No key of the provider is the one that it names.
    #[error("no key of the provider is the one that it was signed with")]
    Key,
    /// The key is there, and did not sign it.
    #[error("its signature is wrong")]
    Signature,
    /// The provider's keys could not be had: nothing is known about the token.
    #[error("the keys of its identity provider cannot be had")]
    NoKeys,
}
