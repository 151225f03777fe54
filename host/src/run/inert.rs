//! Makes text of a run harmless to show, and cuts it to previews.
//!
//! What a job writes is data. Control characters become visible pictures (U+2400 …), characters that turn the
//! direction of text become U+FFFD; new lines and tabs stay. Length in characters is kept.

use serde_json::Value;

/// Whether a character acts on a terminal or on the direction of text, and what stands in for it.
fn stand_in(c: char) -> Option<char> {
    match c {
        '\n' | '\t' => None,
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + c as u32),
        '\u{7f}' => Some('\u{2421}'),
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some('\u{fffd}'),
        _ => None,
    }
}

/// Whether every character of the text is harmless, apart from `\r` before `\n`.
fn is_inert(text: &str) -> bool {
    // Without a branch for each byte: a flood goes through here.
    let harmless = |byte: &u8| matches!(byte, b' '..=b'~') | matches!(byte, b'\n' | b'\t');
    if text.as_bytes().chunks(64).all(|piece| piece.iter().fold(true, |all, byte| all & harmless(byte))) {
        return true;
    }
    !text.chars().any(|c| stand_in(c).is_some())
}

/// The text with control characters made visible. `\r\n` is kept as it is.
#[must_use]
pub fn inert(text: String) -> String {
    if is_inert(&text) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\r' && chars.peek() == Some(&'\n') {
            out.push(c);
        } else {
            out.push(stand_in(c).unwrap_or(c));
        }
    }
    out
}

/// Makes every text in a value harmless, keys included.
pub fn inert_value(value: &mut Value) {
    match value {
        Value::String(text) => {
            if !is_inert(text) {
                *text = inert(std::mem::take(text));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(inert_value),
        Value::Object(map) => {
            if map.keys().any(|key| !is_inert(key)) {
                let old = std::mem::take(map);
                map.extend(old.into_iter().map(|(key, value)| (inert(key), value)));
            }
            map.values_mut().for_each(inert_value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The largest index not above `at` that is a character's boundary.
#[must_use]
pub fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Head and tail of a text with a note of what is left out; the text itself where it fits.
#[must_use]
pub fn preview(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let head = floor_boundary(text, max * 2 / 3);
    let mut tail = text.len() - max / 3;
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}\n… {} bytes left out …\n{}", &text[..head], tail - head, &text[tail..])
}

/// Cuts long texts and lists in a value; a list says that some of it is left out.
pub fn shorten(value: &mut Value, max: usize) {
    match value {
        Value::String(text) if text.len() > max => *text = preview(text, max),
        Value::Array(items) => {
            let most = max / 8 + 1;
            let is_long = items.len() > most;
            items.truncate(most);
            items.iter_mut().for_each(|item| shorten(item, max));
            if is_long {
                items.push("… more items are left out …".into());
            }
        }
        Value::Object(map) => map.values_mut().for_each(|item| shorten(item, max)),
        _ => {}
    }
}

/// A value whose JSON has some `max` bytes: itself where it fits, else with its texts and lists cut, else a preview of its JSON.
pub fn cut_value(value: &mut Value, max: usize) {
    let mut most = max;
    while value.to_string().len() > max && most > 40 {
        shorten(value, most);
        most /= 2;
    }
    let text = value.to_string();
    if text.len() > max {
        *value = Value::String(preview(&text, max / 2));
    }
}

/// The first line of a text, cut to so many characters.
#[must_use]
pub fn headline(text: &str, max: usize) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    if line.chars().count() <= max {
        return Some(line.to_owned());
    }
    Some(line.chars().take(max - 1).chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(inert("a\u{1b}[31mb\u{7}\r\nc\rd\u{202e}".into()), "a\u{241b}[31mb\u{2407}\r\nc\u{240d}d\u{fffd}");
        assert_eq!(inert("zwölf\t\n".into()), "zwölf\t\n");
    }

    #[test]
    fn keys_and_nested_texts_too() {
        let mut value = serde_json::json!({ "a\u{1b}": ["\u{0}", { "k": "x\u{9b}" }] });
        inert_value(&mut value);
        assert_eq!(value, serde_json::json!({ "a\u{241b}": ["\u{2400}", { "k": "x\u{fffd}" }] }));
    }

    #[test]
    fn previews_never_cut_a_character() {
        let text = "äöü".repeat(1000);
        for max in 10..60 {
            let cut = preview(&text, max);
            assert!(cut.contains("left out"));
        }
        assert_eq!(preview("kurz", 10), "kurz");
        assert_eq!(headline("\n  eins zwei  \nb", 6).as_deref(), Some("eins …"));
    }
}
