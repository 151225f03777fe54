//! The table of "speed and memory": the built program measured from outside, beside the limit measured in the same run.
//!
//! `cargo bench --bench system` prints it (about two minutes); words after `--` choose rows, e.g. `-- stop events`. A figure
//! is worth something only with its machine and its ratio: the limit is what the same machine does in the same minute with
//! nothing of ours around it. Nothing here fails because it is slow.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where it cannot measure")]

#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../../tests/system/client.rs"]
mod client;
#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../../tests/system/fetched.rs"]
mod fetched;
#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../../tests/system/host.rs"]
mod host;
#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../../tests/system/mock.rs"]
mod mock;
#[path = "../../../tests/system/patience.rs"]
mod patience;
#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../../tests/system/processes.rs"]
mod processes;
#[expect(dead_code, unused_imports, reason = "the tests use all of it")]
#[path = "../../../tests/system/sshd/mod.rs"]
mod sshd;

mod agents;
mod bare;
mod forest;
mod held;
mod inside;
mod remote;
mod rows;
mod table;
mod trees;
mod wire;

use std::process::ExitCode;

use table::Table;

fn main() -> ExitCode {
    // As falconer itself: what holds trees starts this program again.
    if falconer::tree::shim::is_wanted(std::env::args_os().nth(1).as_deref()) {
        return falconer::tree::shim::main();
    }
    measure();
    ExitCode::SUCCESS
}

fn measure() {
    if std::env::var_os(held::HOLDER).is_some() {
        return held::holder();
    }
    if std::env::var_os(bare::ECHO).is_some() {
        return bare::echo_server();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut table = Table::new();
    println!("{}", table::machine());
    for (name, row) in rows::ALL {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            eprintln!("measuring {name} …");
            row(&mut table);
        }
    }
    println!("\n{table}");
}
