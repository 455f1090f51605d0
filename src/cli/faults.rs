//! Signals that would end the program without a word: a mapped file that is shortened, a limit on the length of files.

#![allow(unsafe_code)]

/// Gives them words. Writing beyond the limit becomes an error like any other.
#[cfg(target_os = "linux")]
pub(super) fn explain() {
    // SAFETY: the structure may be all zeros, the handler is a function of the kind that the flags promise, and it calls
    // nothing that a handler may not. It is installed before there are threads.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = unreadable as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

/// Elsewhere the system's own words have to do.
#[cfg(not(target_os = "linux"))]
pub(super) fn explain() {}

/// Says which file became shorter or unreadable, and ends the program. Other faults come again, and end it as ever.
#[cfg(target_os = "linux")]
extern "C" fn unreadable(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system hands over a valid structure, whose address is that of the fault for this signal.
    let address = unsafe { (*info).si_addr() }.addr();
    let Some(file) = crate::files::maps::file_at(address) else {
        return;
    };
    let parts = [
        "\nerror: `",
        file,
        "` became shorter or unreadable while it was in use; what is finished stays: put the file right (nobody may write \
         to it meanwhile) and run the command again\n",
    ];
    for part in parts {
        // SAFETY: the bytes are there; there is nobody to tell of a failure.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: ends the process at once, without anything that could fault again.
    unsafe { libc::_exit(1) }
}
