//! What a group's memory is, and where the kernel is to speak up (pure).
//!
//! The kernel counts more than a process's own memory for a group: files that were read, sockets,
//! tables. So it is asked to speak (`memory.high`) somewhat above the limit. There it first drops what
//! can be read again, which hurts nobody; and a group that has filled so much with memory of its own is
//! slowed down until somebody decides, instead of being ended by force.

/// Room for what the kernel counts beside processes' own memory, however small the limit: 16 MiB.
const ROOM_MIN: u64 = 16 * 1024 * 1024;
/// What can be dropped and read again (memory.stat).
const DROPPABLE: [&str; 3] = ["active_file", "inactive_file", "slab_reclaimable"];

/// Where the kernel is to speak, for this limit: an eighth above it.
pub(super) fn high(limit: u64) -> u64 {
    limit.saturating_add((limit / 8).max(ROOM_MIN))
}

/// What a group holds that cannot be dropped, swapped out or not, from `memory.current`,
/// `memory.swap.current` and `memory.stat`.
pub(super) fn held(current: u64, swapped: u64, stat: &str) -> u64 {
    let number = |name: &str| {
        let of_line = |line: &str| {
            let rest = line.strip_prefix(name)?;
            rest.strip_prefix(' ')?.parse::<u64>().ok()
        };
        stat.lines().find_map(of_line)
    };
    let droppable: u64 = DROPPABLE.into_iter().filter_map(number).sum();
    current.saturating_sub(droppable).saturating_add(swapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn files_that_were_read_do_not_count() {
        let stat = "anon 100\nfile 900\nkernel 30\nactive_file 300\ninactive_file 600\n\
                    workingset_refault_file 5\nslab_reclaimable 20\nslab_unreclaimable 7\n";
        assert_eq!(held(1030, 0, stat), 110);
        assert_eq!(held(1030, 40, stat), 150);
        // What is read one after the other need not fit together.
        assert_eq!(held(500, 0, stat), 0);
        assert_eq!(held(500, 1, ""), 501);
    }

    #[test]
    fn the_kernel_speaks_above_the_limit() {
        assert_eq!(high(800 * MIB), 900 * MIB);
        assert_eq!(high(10 * MIB), 26 * MIB);
        assert_eq!(high(u64::MAX), u64::MAX);
    }
}
