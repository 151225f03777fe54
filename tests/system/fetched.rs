//! What `tests/fetch` brings: where it is, and what happens when it is not there.

use std::path::PathBuf;

/// The cache that `tests/fetch` fills.
fn cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("FALCONER_TEST_CACHE").or_else(|| Some(set("HOME")?.join(".cache/falconer-tests")))
}

/// A fetched file; none, with a line that says so, where it is missing and not required.
fn find(path: &str, test: &str) -> Option<PathBuf> {
    let file = cache().map(|cache| cache.join(path)).filter(|file| file.exists());
    if file.is_none() {
        left_out(test, &format!("needs {path}; run tests/fetch"));
    }
    file
}

/// Says that a test is left out, and why; fails it where everything is required.
#[track_caller]
pub fn left_out(test: &str, reason: &str) {
    assert!(std::env::var("FALCONER_TESTS_REQUIRE").as_deref() != Ok("all"), "{test} {reason}");
    println!("left out: {test} {reason}");
}

/// The real `claude`, version 2.1.329.
pub fn claude(test: &str) -> Option<PathBuf> {
    find("claude-2.1.329/claude", test)
}

/// The real `codex`, version 0.169.0.
pub fn codex(test: &str) -> Option<PathBuf> {
    find("codex-0.169.0/bin/codex", test)
}

/// A Python that has the package `mcp`, version 2.3.0.
pub fn python(test: &str) -> Option<PathBuf> {
    find("python/bin/python", test)
}

/// A Python without packages, for the mocks of the model APIs.
pub fn plain_python(test: &str) -> Option<PathBuf> {
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().map(PathBuf::from).find(|path| path.exists());
    python.or_else(|| find("python/bin/python", test))
}

/// A file of `tests/`.
pub fn of_tests(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests").join(path).canonicalize().unwrap()
}
