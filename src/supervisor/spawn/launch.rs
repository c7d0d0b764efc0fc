//! From a prepared start to a running program, without a copy of the daemon's memory.
//!
//! The child borrows the daemon's memory until it executes its program (`CLONE_VM | CLONE_VFORK`, as
//! posix_spawn(3) does, which can set no limits and enter no cgroup): copying the page tables of a
//! daemon with hundreds of services, and faulting its pages in again, costs more than all else of a
//! start. Meanwhile the thread that starts it waits and the others go on. A child that becomes another
//! user gets a copy all the same: whoever may trace that user must not see our memory.
//!
//! What the child does stands in [`Plan::run`]. It must not allocate, lock, panic or write to what
//! others read.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::{Errno, FdFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{Gid, Uid};

use super::super::run_lock;
use crate::config::spec::RunAs;

/// What the child needs of a stack, many times over.
const STACK: usize = 64 * 1024;
/// Where programs are looked for without a `PATH`, as execvp(3) does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// What executes a script without a `#!` line, as execvp(3) has it.
const SHELL: &CStr = c"/bin/sh";
/// The exit code of a child that never became its program. Nobody sees it.
const NOT_EXECUTED: c_int = 127;

/// A program with its arguments, variables and folder, as the kernel takes them.
#[derive(Debug)]
pub(super) struct Program {
    /// Paths that it may have, in the order of `PATH`.
    candidates: Vec<CString>,
    /// The first one is the name that it was called by.
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
}

impl Program {
    /// A name without a slash is looked for in the `PATH` among these variables.
    ///
    /// # Errors
    /// When one of them holds a zero byte.
    pub(super) fn new<'a>(
        name: &'a OsStr,
        args: impl IntoIterator<Item = &'a OsStr>,
        env: &BTreeMap<&str, &str>,
        cwd: &Path,
    ) -> io::Result<Self> {
        let path = env.get("PATH").copied();
        let variable = |(name, value): (&&str, &&str)| CString::new(format!("{name}={value}"));
        let args = std::iter::once(name).chain(args);
        Ok(Self {
            candidates: candidates(name, path.unwrap_or(DEFAULT_PATH))?,
            args: args
                .map(|arg| CString::new(arg.as_bytes()))
                .collect::<Result<_, _>>()?,
            env: env.iter().map(variable).collect::<Result<_, _>>()?,
            cwd: CString::new(cwd.as_os_str().as_bytes())?,
        })
    }
}

/// The paths at which execvp(3) would try a program.
fn candidates(name: &OsStr, path: &str) -> io::Result<Vec<CString>> {
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![CString::new(name.as_bytes())?]);
    }
    // No program is called nothing; without this the folders would be tried.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let folders = path.split(':');
    let paths = folders
        .map(|folder| CString::new(Path::new(folder).join(name).into_os_string().as_bytes()));
    Ok(paths.collect::<Result<_, _>>()?)
}

/// What a child gets beside its program.
#[derive(Debug)]
pub(super) struct Inheritance<'a> {
    /// Standard input, output and error.
    pub(super) stdio: [BorrowedFd<'a>; 3],
    /// Stay open under their numbers.
    pub(super) kept: &'a [BorrowedFd<'a>],
    /// Becomes descriptor [`run_lock::NUMBER`].
    pub(super) lock: Option<BorrowedFd<'a>>,
    /// The list of processes of its cgroup. The daemon has opened it, so that a child which is another
    /// user by now may enter, too. One that can't runs where it is.
    pub(super) group: Option<BorrowedFd<'a>>,
    pub(super) user: Option<RunAs>,
    pub(super) files: Rlimit,
    pub(super) core: Rlimit,
}

/// Starts children, one after the other.
#[derive(Debug)]
pub(super) struct Launcher {
    /// The child's stack, its lowest number the error that it left. Shared with a child that has a copy
    /// of our memory, too.
    stack: *mut c_void,
}

#[expect(
    unsafe_code,
    reason = "a mapping is no more bound to a thread than a box"
)]
// SAFETY: the mapping is its own, and only one thread can have it.
unsafe impl Send for Launcher {}

impl Launcher {
    /// Maps the stack.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn new() -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel likes it.
        #[expect(unsafe_code, reason = "mmap(2)")]
        let stack = unsafe { mmap_anonymous(null_mut(), STACK, access, MapFlags::SHARED)? };
        Ok(Self { stack })
    }

    /// Starts a program in a session of its own and returns its pid, once it is executed.
    ///
    /// # Errors
    /// The first step that failed in the child; it is gone then.
    pub(super) fn launch(&mut self, program: &Program, gets: &Inheritance<'_>) -> io::Result<u32> {
        let pointers = |texts: &[CString]| -> Vec<*const c_char> {
            let pointers = texts.iter().map(|text| text.as_ptr());
            pointers.chain([null()]).collect()
        };
        // One place before the arguments, for a shell.
        let mut args = pointers(&program.args);
        args.insert(0, SHELL.as_ptr());
        let mut plan = Plan {
            program,
            gets,
            args,
            env: pointers(&program.env),
        };
        let shares_memory = match gets.user {
            None => libc::CLONE_VM,
            Some(_) => 0,
        };
        let flags = libc::CLONE_VFORK | libc::SIGCHLD | shares_memory;
        self.told().store(0, Ordering::Relaxed);
        let mut given = Given {
            plan: &mut plan,
            told: self.told(),
        };
        // No handler of ours may run in the child: it would act on our memory.
        let mask = Masked::all();
        #[expect(
            unsafe_code,
            reason = "no library offers a child that shares our memory"
        )]
        // SAFETY: the stack is writable, its top aligned, and nobody else's while the kernel holds this
        // thread, which it does until the child has executed its program or ended. What the child is
        // given outlives that.
        let pid = unsafe {
            let top = self.stack.byte_add(STACK);
            libc::clone(in_child, top, flags, (&raw mut given).cast())
        };
        let failed = io::Error::last_os_error();
        drop(mask);
        if pid < 0 {
            return Err(failed);
        }
        match self.told().load(Ordering::Relaxed) {
            0 => Ok(pid.unsigned_abs()),
            error => {
                collect(pid);
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// What the child says of its failure.
    fn told(&self) -> &AtomicI32 {
        // SAFETY: it is mapped as long as this is there, aligned, valid with any bytes, and only ever
        // accessed as what it is: the stack grows towards it and never gets there.
        #[expect(unsafe_code, reason = "it lies in memory that the child shares")]
        unsafe {
            &*self.stack.cast::<AtomicI32>()
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing refers to any more.
        #[expect(unsafe_code, reason = "munmap(2)")]
        let _ = unsafe { rustix::mm::munmap(self.stack, STACK) };
    }
}

/// Ends a child that was started, and takes it from the kernel's table.
pub(super) fn end(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = pid.cast_signed();
    if let Some(child) = Pid::from_raw(pid) {
        let _ = kill_process(child, Signal::KILL);
        collect(pid);
    }
}

/// A child that has ended, taken from the kernel's table.
fn collect(pid: c_int) {
    use rustix::process::{Pid, WaitOptions, waitpid};
    let pid = Pid::from_raw(pid);
    while pid.is_some() && waitpid(pid, WaitOptions::empty()).is_err_and(|e| e == Errno::INTR) {}
}

/// Every signal waits until this is dropped.
struct Masked(libc::sigset_t);

impl Masked {
    fn all() -> Self {
        // SAFETY: both sets are ours, and written by the functions that are called.
        #[expect(unsafe_code, reason = "a signal mask of this thread")]
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        let Self(before) = self;
        // SAFETY: a set that the kernel has filled.
        #[expect(unsafe_code, reason = "a signal mask of this thread")]
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const *before, null_mut());
        }
    }
}

/// What the child is given.
struct Given<'a> {
    plan: &'a mut Plan<'a>,
    told: &'a AtomicI32,
}

extern "C" fn in_child(given: *mut c_void) -> c_int {
    // SAFETY: `launch` gives one of these, and waits.
    #[expect(unsafe_code, reason = "how clone(2) hands something over")]
    let given = unsafe { &mut *given.cast::<Given<'_>>() };
    let Err(error) = given.plan.run();
    given.told.store(error.raw_os_error(), Ordering::Relaxed);
    #[expect(
        unsafe_code,
        reason = "what is to be done at the daemon's exit is not the child's"
    )]
    // SAFETY: ends this process and runs nothing of ours.
    unsafe {
        libc::_exit(NOT_EXECUTED)
    }
}

/// The child's part.
struct Plan<'a> {
    program: &'a Program,
    gets: &'a Inheritance<'a>,
    /// A shell, the arguments, the end.
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
}

/// What a successful `exec` returns.
enum Never {}

impl Plan<'_> {
    /// All that happens before the program: system calls only.
    fn run(&mut self) -> Result<Never, Errno> {
        for (number, end) in (0..).zip(self.gets.stdio) {
            hand_down(end, number)?;
        }
        if let Some(RunAs { uid, gid }) = self.gets.user {
            // Of this thread, which is all that there is of the child: libc would tell the daemon's others.
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_groups(&[])?;
            }
            rustix::thread::set_thread_gid(Gid::from_raw(gid))?;
            rustix::thread::set_thread_uid(Uid::from_raw(uid))?;
        }
        rustix::process::chdir(self.program.cwd.as_c_str())?;
        if let Some(lock) = self.gets.lock {
            // A child that may not have so many descriptors goes without.
            let _ = hand_down(lock, run_lock::NUMBER);
        }
        for kept in self.gets.kept {
            rustix::io::fcntl_setfd(kept, FdFlags::empty())?;
        }
        if let Some(group) = self.gets.group {
            let _ = rustix::io::write(group, b"0");
        }
        rustix::process::setsid()?;
        rustix::process::setrlimit(Resource::Nofile, self.gets.files)?;
        rustix::process::setrlimit(Resource::Core, self.gets.core)?;
        forget_handlers();
        Err(self.execute())
    }

    /// As execvp(3). Returns only when it fails.
    fn execute(&mut self) -> Errno {
        let mut denied = false;
        for candidate in &self.program.candidates {
            // The shell's place is left out.
            match execute(candidate, self.args.get(1..).unwrap_or_default(), &self.env) {
                Errno::NOEXEC => {
                    if let Some(called) = self.args.get_mut(1) {
                        *called = candidate.as_ptr();
                    }
                    return execute(SHELL, &self.args, &self.env);
                }
                Errno::ACCESS => denied = true,
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
                error => return error,
            }
        }
        match denied {
            true => Errno::ACCESS,
            false => Errno::NOENT,
        }
    }
}

/// Makes a descriptor inheritable under this number, whatever has it.
fn hand_down(end: BorrowedFd<'_>, number: c_int) -> Result<(), Errno> {
    if end.as_raw_fd() == number {
        return rustix::io::fcntl_setfd(end, FdFlags::empty());
    }
    // SAFETY: dup2(2) touches no memory, and in a child that is about to run its program nobody owns
    // the number that it replaces: `Reserved` keeps the lock's from what is still needed there.
    #[expect(unsafe_code, reason = "libraries replace only what they own")]
    match unsafe { libc::dup2(end.as_raw_fd(), number) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// Signals mean what they mean to a program that was just started, and none is kept from it.
fn forget_handlers() {
    // SAFETY: structures of our own, and a table of handlers that the child has for itself. The kernel
    // refuses numbers that have no handler, which changes nothing.
    #[expect(unsafe_code, reason = "signals of a child, by system calls alone")]
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        for signal in 1..=libc::SIGRTMAX() {
            let is_known = libc::sigaction(signal, null(), &raw mut action) == 0;
            // We ignore SIGPIPE for ourselves; what the operator's shell ignores stays ignored.
            let stays = match action.sa_sigaction {
                libc::SIG_DFL => true,
                libc::SIG_IGN => signal != libc::SIGPIPE,
                _ => false,
            };
            if is_known && !stays {
                action.sa_sigaction = libc::SIG_DFL;
                action.sa_flags = 0;
                libc::sigaction(signal, &raw const action, null_mut());
            }
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, null_mut());
    }
}

fn execute(path: &CStr, args: &[*const c_char], env: &[*const c_char]) -> Errno {
    #[expect(
        unsafe_code,
        reason = "execve(2) with what was prepared before the fork"
    )]
    // SAFETY: both lists end with a null pointer, and what they point to outlives the call.
    unsafe {
        libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr());
    }
    last_error()
}

/// Of a call of libc.
fn last_error() -> Errno {
    let error = io::Error::last_os_error();
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests;
