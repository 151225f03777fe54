//! A unified diff of what `claude` says it changed.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hunk {
    old_start: u64,
    old_lines: u64,
    new_start: u64,
    new_lines: u64,
    lines: Vec<String>,
}

/// The diff of a changed file, from the tool's `structuredPatch`; none when there is nothing to show.
pub fn of_change(path: &str, structured: &Value) -> Option<String> {
    let hunks: Vec<Hunk> = serde_json::from_value(structured.clone()).ok()?;
    if hunks.is_empty() {
        return None;
    }
    let mut diff = format!("--- {path}\n+++ {path}\n");
    for hunk in hunks {
        let _ = writeln!(diff, "@@ -{},{} +{},{} @@", hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines);
        for line in hunk.lines {
            diff.push_str(&line);
            diff.push('\n');
        }
    }
    Some(diff)
}

/// The diff of a new file.
pub fn of_new(path: &str, content: &str) -> String {
    let mut diff = format!("--- /dev/null\n+++ {path}\n");
    let count = content.lines().count();
    if count > 0 {
        let _ = writeln!(diff, "@@ -0,0 +1,{count} @@");
    }
    for line in content.lines() {
        diff.push('+');
        diff.push_str(line);
        diff.push('\n');
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
    fn a_change_and_a_new_file() {
        let structured = json!([{"oldStart": 1, "oldLines": 3, "newStart": 1, "newLines": 3, "lines": [" a", "-b", "+B2", " c"]}]);
        assert_eq!(of_change("/w/e", &structured).unwrap(), "--- /w/e\n+++ /w/e\n@@ -1,3 +1,3 @@\n a\n-b\n+B2\n c\n");
        assert_eq!(of_change("/w/e", &json!([])), None);
        assert_eq!(of_change("/w/e", &json!("odd")), None);
        assert_eq!(of_new("/w/n", "x\ny"), "--- /dev/null\n+++ /w/n\n@@ -0,0 +1,2 @@\n+x\n+y\n\\ No newline at end of file\n");
    }
}
