//! The program `falconer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // What starts a run's processes is this program again. It is dispatched here, before anything else: no thread, no
    // runtime, no argument parser.
    falconer::cli::main()
}
