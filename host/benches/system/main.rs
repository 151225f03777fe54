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
#[path = "../../../tests/system/host.rs"]
mod host;
#[path = "../../../tests/system/patience.rs"]
mod patience;
#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../../tests/system/processes.rs"]
mod processes;

mod bare;
mod inside;
mod rows;
mod table;
mod wire;

use table::Table;

fn main() {
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
