//! The program `falconer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // What ssh asks for a password, or about a host key, is this program again, by a link of another name.
    if falconer::far::is_wanted(std::env::args_os().next().as_deref()) {
        return falconer::far::main();
    }
    // What starts a run's processes is this program again. It is dispatched here, before anything else: no thread, no
    // runtime, no argument parser.
    if falconer::tree::shim::is_wanted(std::env::args_os().nth(1).as_deref()) {
        return falconer::tree::shim::main();
    }
    falconer::cli::main()
}
