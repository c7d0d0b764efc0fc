//! Arguments → cli or daemon → exit code; nothing else.

fn main() {}
