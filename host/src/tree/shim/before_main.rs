//! Unit tests: shims are this test program again, whose `main` belongs to the harness. So they begin before it.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::process::Termination;

#[expect(unsafe_code, reason = "what runs before main is a section of the program (the C library gives it the arguments)")]
#[unsafe(link_section = ".init_array")]
#[used]
static DISPATCH: extern "C" fn(c_int, *const *const c_char) = dispatch;

extern "C" fn dispatch(count: c_int, args: *const *const c_char) {
    if count < 2 {
        return;
    }
    // SAFETY: the C library passes `count` strings, as to main.
    #[expect(unsafe_code, reason = "arguments as C passes them")]
    let first = unsafe { CStr::from_ptr(*args.add(1)) };
    if super::is_wanted(Some(OsStr::from_bytes(first.to_bytes()))) {
        let _ = super::main().report();
        // SAFETY: ends the process, without what would run after main.
        #[expect(unsafe_code, reason = "there is no main to return to")]
        unsafe {
            libc::_exit(0)
        }
    }
}
