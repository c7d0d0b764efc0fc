//! Calls to addresses outside, through one guard: no private addresses unless allowed, limits on size and time.
