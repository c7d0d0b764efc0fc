//! Every deliberate difference from PM2 that the recorded cases show, each with its reason;
//! `docs/pm2-differences.md` tells users the same.

/// One fact of one case that is not as in PM2.
pub(super) struct Difference {
    pub(super) topic: &'static str,
    /// The case; `*` for any.
    pub(super) case: &'static str,
    /// `web.pm_cwd`, `codes`; `*` at its beginning or end stands for anything.
    pub(super) what: &'static str,
    /// Why it is so.
    #[expect(dead_code, reason = "for who reads the table")]
    pub(super) why: &'static str,
}

impl Difference {
    /// Is this the one?
    pub(super) fn fits(&self, topic: &str, case: &str, what: &str) -> bool {
        self.topic == topic && like(self.case, case) && like(self.what, what)
    }
}

fn like(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}

pub(super) const DIFFERENCES: &[Difference] = &[];
