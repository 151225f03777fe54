//! Changes of files, as unified diffs.

use std::fmt::Write as _;

use falconer_backend::{ChangeKind, FileChange};
use serde_json::Value;

use crate::incoming::text;

/// One of the `changes` of a `fileChange`: for a new or a deleted file Codex gives its content, else the hunks.
pub fn change(value: &Value) -> Option<FileChange> {
    let path = text(value, "path")?;
    let body = text(value, "diff").unwrap_or_default();
    let kind = value.get("kind").unwrap_or(&Value::Null);
    let moved = text(kind, "move_path").or_else(|| text(kind, "movePath"));
    let (kind, diff) = match text(kind, "type").as_deref() {
        Some("add") => (ChangeKind::Created, whole(&path, &body, '+')),
        Some("delete") => (ChangeKind::Deleted, whole(&path, &body, '-')),
        _ => {
            let to = moved.as_deref().unwrap_or(&path);
            let hunks = body.split("\n\n\nMoved to: ").next().unwrap_or_default();
            let end = if hunks.is_empty() || hunks.ends_with('\n') { "" } else { "\n" };
            let kind = if moved.is_some() { ChangeKind::Renamed } else { ChangeKind::Modified };
            (kind, format!("--- {path}\n+++ {to}\n{hunks}{end}"))
        }
    };
    Some(FileChange { path, kind, renamed_to: moved.filter(|_| kind == ChangeKind::Renamed), diff: Some(diff) })
}

/// The diff of a file that is new (`+`) or gone (`-`).
fn whole(path: &str, content: &str, sign: char) -> String {
    let count = content.lines().count();
    let (names, range) = match sign {
        '+' => (format!("--- /dev/null\n+++ {path}\n"), format!("@@ -0,0 +1,{count} @@\n")),
        _ => (format!("--- {path}\n+++ /dev/null\n"), format!("@@ -1,{count} +0,0 @@\n")),
    };
    let mut diff = names;
    if count > 0 {
        diff.push_str(&range);
    }
    for line in content.lines() {
        let _ = writeln!(diff, "{sign}{line}");
    }
    if !content.is_empty() && !content.ends_with('\n') {
        diff.push_str("\\ No newline at end of file\n");
    }
    diff
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_has_a_unified_diff() {
        let of = |value: Value| change(&value).unwrap();
        let new = of(json!({"path": "/w/n", "kind": {"type": "add"}, "diff": "x\ny"}));
        assert_eq!(new.kind, ChangeKind::Created);
        assert_eq!(new.diff.unwrap(), "--- /dev/null\n+++ /w/n\n@@ -0,0 +1,2 @@\n+x\n+y\n\\ No newline at end of file\n");
        let gone = of(json!({"path": "/w/g", "kind": {"type": "delete"}, "diff": "x\n"}));
        assert_eq!((gone.kind, gone.diff.unwrap().as_str()), (ChangeKind::Deleted, "--- /w/g\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-x\n"));
        let hunks = "@@ -1,2 +1,2 @@\n a\n-b\n+B\n";
        let changed = of(json!({"path": "/w/c", "kind": {"type": "update", "move_path": null}, "diff": hunks}));
        assert_eq!((changed.kind, changed.diff.unwrap()), (ChangeKind::Modified, format!("--- /w/c\n+++ /w/c\n{hunks}")));
        let diff = format!("{}\n\n\nMoved to: /w/to", hunks.trim_end());
        let moved = of(json!({"path": "/w/c", "kind": {"type": "update", "move_path": "/w/to"}, "diff": diff}));
        assert_eq!((moved.kind, moved.renamed_to.as_deref()), (ChangeKind::Renamed, Some("/w/to")));
        assert_eq!(moved.diff.unwrap(), format!("--- /w/c\n+++ /w/to\n{hunks}"));
        assert_eq!(change(&json!({})), None);
    }
}
