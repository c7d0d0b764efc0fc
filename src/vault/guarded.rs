//! Memory for keys: pages of their own, which no core file holds and, where the limits allow, no
//! swap.
//!
//! What is computed with a key passes over the stack and through registers all the same: the
//! daemon's limit on cores (`daemon/limits.rs`) is what keeps that out of files.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::Deref;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};

/// A value alone in its pages, which are wiped when it is dropped.
pub(super) struct Guarded<T> {
    at: NonNull<T>,
    bytes: usize,
}

impl<T> Guarded<T> {
    /// Moves a value into pages of its own.
    #[expect(unsafe_code, reason = "a mapping is memory without an owner")]
    pub(super) fn new(value: T) -> Self {
        const {
            assert!(
                align_of::<T>() <= 4096,
                "pages are aligned to 4 KiB at least"
            )
        };
        let bytes = size_of::<T>()
            .max(1)
            .next_multiple_of(rustix::param::page_size());
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, at a place that the kernel chooses, touches nothing that is there.
        let mapped = unsafe { mmap_anonymous(null_mut(), bytes, prot, flags) };
        let Some(at) = mapped.ok().and_then(|at| NonNull::new(at.cast::<T>())) else {
            handle_alloc_error(Layout::new::<T>());
        };
        // SAFETY: the mapping is ours alone, large enough and aligned for `T`, and the advice does
        // not change what is in it.
        unsafe {
            // Best effort both: a kernel without the one, a limit of no locked bytes (RLIMIT_MEMLOCK).
            let _ = madvise(at.as_ptr().cast(), bytes, Advice::LinuxDontDump);
            let _ = mlock(at.as_ptr().cast(), bytes);
            at.write(value);
        }
        Self { at, bytes }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    #[expect(unsafe_code, reason = "the value lies in a mapping")]
    fn deref(&self) -> &T {
        // SAFETY: `new` has written a value there, which lives until `drop`.
        unsafe { self.at.as_ref() }
    }
}

impl<T> Drop for Guarded<T> {
    #[expect(unsafe_code, reason = "the value lies in a mapping")]
    fn drop(&mut self) {
        let at = self.at.as_ptr();
        // SAFETY: the value is dropped once, here; its pages are ours, and nobody looks at them
        // after this. What cannot be unmapped is wiped all the same.
        unsafe {
            at.drop_in_place();
            at.cast::<u8>().write_bytes(0, self.bytes);
            let _ = munmap(at.cast(), self.bytes);
        }
    }
}

#[expect(unsafe_code, reason = "a pointer is not `Send` by itself")]
// SAFETY: it owns its value as a `Box` does: whoever may have the value may have this.
unsafe impl<T: Send> Send for Guarded<T> {}

#[expect(unsafe_code, reason = "a pointer is not `Sync` by itself")]
// SAFETY: as a `Box`: it gives out shared references only.
unsafe impl<T: Sync> Sync for Guarded<T> {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_value_lives_there_and_is_dropped_once() {
        let seen = Arc::new(());
        let guarded = Guarded::new((seen.clone(), [7u8; 10_000]));
        assert!(guarded.1.iter().all(|&byte| byte == 7));
        assert_eq!(Arc::strong_count(&seen), 2);
        drop(guarded);
        assert_eq!(Arc::strong_count(&seen), 1);
    }

    #[test]
    fn its_pages_are_in_no_core_file() {
        let guarded = Guarded::new([7u8; 32]);
        let at = std::ptr::from_ref(&*guarded).addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_ours = false;
        let mut flags = None;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            let number = |text| usize::from_str_radix(text, 16).ok();
            if let Some((Some(from), Some(to))) = range.map(|(a, b)| (number(a), number(b))) {
                is_ours = (from..to).contains(&at);
            } else if is_ours && line.starts_with("VmFlags:") {
                flags = Some(line.to_owned());
            }
        }
        match flags {
            Some(flags) => assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}"),
            None => eprintln!("skipped: this kernel shows no flags of mappings"),
        }
    }
}
