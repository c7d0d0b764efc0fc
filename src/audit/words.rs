//! What can be done, in stable words: programs read them, and `mcpm audit --action` takes their
//! beginnings.

/// A user was added, with a first token.
pub const USER_ADD: &str = "user.add";
/// A user was removed, with all that was theirs.
pub const USER_REMOVE: &str = "user.remove";
/// A user was switched off.
pub const USER_DISABLE: &str = "user.disable";
/// A user was switched on again.
pub const USER_ENABLE: &str = "user.enable";
/// A user was put into a group, or into none.
pub const USER_GROUP: &str = "user.group";
/// A token was made.
pub const TOKEN_ADD: &str = "token.add";
/// Tokens were ended.
pub const TOKEN_REVOKE: &str = "token.revoke";

/// An instance was made, with a credential.
pub const INSTANCE_CREATE: &str = "instance.create";
/// An instance got another credential.
pub const INSTANCE_CREDENTIAL: &str = "instance.credential";
/// An instance got another URL.
pub const INSTANCE_ROTATE: &str = "instance.rotate";
/// Label, expiry or state of an instance were changed.
pub const INSTANCE_CHANGE: &str = "instance.change";
/// A credential that a user has handed over was refused.
pub const INSTANCE_REFUSED: &str = "instance.refused";
/// The external service takes the credential of an instance no longer.
pub const INSTANCE_EXPIRED: &str = "instance.credential_expired";
/// Instances of another system were added.
pub const INSTANCE_IMPORT: &str = "instance.import";
/// An instance was removed, with its credential.
pub const INSTANCE_REMOVE: &str = "instance.remove";

/// Another master key is to take the place of this one.
pub const KEY_ROTATE: &str = "key.rotate";
/// It is not to, after all.
pub const KEY_CANCEL: &str = "key.cancel";
/// Another master key is the one.
pub const KEY_ROTATED: &str = "key.rotated";

/// Apps were started.
pub const PROCESS_START: &str = "process.start";
/// Processes were stopped.
pub const PROCESS_STOP: &str = "process.stop";
/// Processes were restarted.
pub const PROCESS_RESTART: &str = "process.restart";
/// Processes were deleted.
pub const PROCESS_DELETE: &str = "process.delete";
/// Apps got more or fewer processes.
pub const PROCESS_SCALE: &str = "process.scale";
/// A process was reloaded.
pub const PROCESS_RELOAD: &str = "process.reload";
/// Counters were set to 0.
pub const PROCESS_RESET: &str = "process.reset";
/// Changed files restart processes no longer.
pub const PROCESS_UNWATCH: &str = "process.unwatch";
/// Processes got a signal.
pub const PROCESS_SIGNAL: &str = "process.signal";
/// Processes got a line, which is not told.
pub const PROCESS_SEND: &str = "process.send";

/// The list was saved.
pub const LIST_SAVE: &str = "list.save";
/// The saved list was emptied.
pub const LIST_CLEAR: &str = "list.clear";
/// The saved list was brought back.
pub const LIST_RESURRECT: &str = "list.resurrect";
/// Logs were emptied.
pub const LOGS_FLUSH: &str = "logs.flush";

/// The daemon was told to end.
pub const DAEMON_STOP: &str = "daemon.stop";
/// Another program has taken over.
pub const DAEMON_UPDATE: &str = "daemon.update";

/// The router has refused requests.
pub const ROUTER_REFUSED: &str = "router.refused";
/// The first request of a UTC day by an instance.
pub const ROUTER_FIRST_USE: &str = "router.first_use";
/// The API has refused calls.
pub const API_REFUSED: &str = "api.refused";

/// A user's token was shown at the URL of another user's instance.
pub const FOREIGN_TOKEN: &str = "isolation.foreign_token";
/// Tokens that are not valid were shown again and again.
pub const WRONG_TOKENS: &str = "isolation.wrong_tokens";
/// Instance ids that do not exist were tried one after the other.
pub const GUESSED_IDS: &str = "isolation.guessed_ids";
/// Instances of many users were used from one address.
pub const MANY_USERS: &str = "isolation.many_users";

/// All of them.
pub const ALL: [&str; 40] = [
    USER_ADD,
    USER_REMOVE,
    USER_DISABLE,
    USER_ENABLE,
    TOKEN_ADD,
    TOKEN_REVOKE,
    INSTANCE_CREATE,
    INSTANCE_CREDENTIAL,
    INSTANCE_REFUSED,
    INSTANCE_EXPIRED,
    INSTANCE_ROTATE,
    INSTANCE_CHANGE,
    INSTANCE_IMPORT,
    INSTANCE_REMOVE,
    KEY_ROTATE,
    KEY_CANCEL,
    KEY_ROTATED,
    PROCESS_START,
    PROCESS_STOP,
    PROCESS_RESTART,
    PROCESS_DELETE,
    PROCESS_SCALE,
    PROCESS_RELOAD,
    PROCESS_RESET,
    PROCESS_UNWATCH,
    PROCESS_SIGNAL,
    PROCESS_SEND,
    LIST_SAVE,
    LIST_CLEAR,
    LIST_RESURRECT,
    LOGS_FLUSH,
    DAEMON_STOP,
    DAEMON_UPDATE,
    ROUTER_REFUSED,
    ROUTER_FIRST_USE,
    API_REFUSED,
    FOREIGN_TOKEN,
    WRONG_TOKENS,
    GUESSED_IDS,
    MANY_USERS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_differ_and_have_a_kind_before_a_dot() {
        for (at, word) in ALL.iter().enumerate() {
            assert!(!ALL[..at].contains(word), "{word}");
            let (kind, act) = word.split_once('.').unwrap();
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(kind.bytes().chain(act.bytes()).all(plain), "{word}");
        }
    }
}
