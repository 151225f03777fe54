//! The guide for backend authors shows the very code that is compiled here as an example.

use std::fs;
use std::path::Path;

#[test]
fn the_guides_backend_is_the_example() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(package.join("../../docs/backends.md")).unwrap();
    let example = fs::read_to_string(package.join("examples/report/src/lib.rs")).unwrap();
    assert!(guide.contains(&format!("\n```rust\n{example}```\n")), "docs/backends.md and examples/report/src/lib.rs differ");
}

#[test]
fn the_contract_in_the_package_is_the_contract() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(package.join(file)).unwrap();
    assert_eq!(read("wit/backend.wit"), read("../../wit/backend.wit"));
}
