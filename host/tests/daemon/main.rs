//! The daemon as real processes: this program starts itself again as client and as daemon, as `falconer` does, with a
//! service that echoes lines. What is served is tested elsewhere; here it is who serves, who is let in, and who ends when.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cases;
mod process;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve") => process::serve(&args[1..]),
        Some("mcp") => process::mcp(&args[1..]),
        Some("mcp--ephemeral") => process::ephemeral(),
        _ => cases(&args),
    }
}

/// A small harness: names may be narrowed by a part of them; `--list` lists.
fn cases(args: &[String]) -> ExitCode {
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let list = args.iter().any(|arg| arg == "--list");
    let mut failed = Vec::new();
    for (name, case) in cases::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        if list {
            println!("{name}: test");
            continue;
        }
        let outcome = std::panic::catch_unwind(case);
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if outcome.is_err() {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("\nfailed: {}", failed.join(", "));
        ExitCode::from(101)
    }
}
