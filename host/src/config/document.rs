//! The parsed file with its places: typed access to keys, and the collection of all that is wrong.
//!
//! A key that is asked for is known; [`Section::close`] reports every other one. A value that does not fit is reported and
//! read as absent, so that one pass finds all errors of a file.

use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::defaults::Bound;
use super::error::{ConfigError, Place, inert};
use super::units::Cpus;
use super::{overrides, units};

/// One reading of one text.
pub(super) struct Reading<'t> {
    pub file: Option<&'t Utf8Path>,
    pub text: &'t str,
    pub home: &'t Utf8Path,
    /// Where relative paths begin.
    pub base: &'t Utf8Path,
    /// What is not shown where a line is: values that may be secrets.
    pub hidden: Vec<Range<usize>>,
    pub problems: RefCell<Vec<ConfigError>>,
}

impl Reading<'_> {
    pub fn problem(&self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.borrow_mut().push(ConfigError {
            file: self.file.map(Utf8Path::to_owned),
            place: Some(Place::of(self.text, span, &self.hidden)),
            message: inert(&message.into()),
            hint: Some(inert(&hint.into())),
        });
    }
    /// A path of the file, expanded.
    pub fn path(&self, text: &str, span: Range<usize>) -> Option<Utf8PathBuf> {
        overrides::expand(text, self.home, self.base).map_err(|(message, hint)| self.problem(span, message, hint)).ok()
    }
}

/// One table of the file.
pub(super) struct Section<'r, 't> {
    pub reading: &'r Reading<'t>,
    /// `backends.exec.grants`; empty at the top.
    pub name: String,
    table: &'r DeTable<'t>,
    known: RefCell<Vec<&'static str>>,
}

/// One entry of a table whose keys are free.
pub(super) struct Entry<'r, 't> {
    pub key: &'r str,
    pub key_span: Range<usize>,
    pub value: &'r DeValue<'t>,
    pub span: Range<usize>,
}

impl<'r, 't> Section<'r, 't> {
    pub fn new(reading: &'r Reading<'t>, name: impl Into<String>, table: &'r DeTable<'t>) -> Self {
        Self { reading, name: name.into(), table, known: RefCell::default() }
    }

    fn under(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub fn value(&self, key: &'static str) -> Option<&'r Spanned<DeValue<'t>>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn unfit(&self, key: &str, value: &Spanned<DeValue<'t>>, wanted: &str, hint: &str) {
        let found = kind(value.get_ref());
        self.reading.problem(value.span(), format!("`{}` must be {wanted}, not {found}", self.under(key)), hint);
    }

    /// A table below this one.
    pub fn section(&self, key: &'static str) -> Option<Section<'r, 't>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(self.reading, self.under(key), table)),
            _ => {
                self.unfit(key, value, "a table", &format!("write `[{}]` on a line of its own, and its keys below", self.under(key)));
                None
            }
        }
    }

    /// The tables of a list of tables (`[[key]]`), each with its place.
    pub fn tables(&self, key: &'static str) -> Vec<(Section<'r, 't>, Range<usize>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let hint = format!("write `[[{}]]` on a line of its own, once for each", self.under(key));
        let DeValue::Array(items) = value.get_ref() else {
            self.unfit(key, value, "a list of tables", &hint);
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => out.push((Section::new(self.reading, self.under(key), table), item.span())),
                _ => self.unfit(key, item, "a list of tables", &hint),
            }
        }
        out
    }

    /// The entries of this table, whose keys are free.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'r, 't>> {
        self.table.iter().map(|(key, value)| Entry {
            key: key.get_ref().as_ref(),
            key_span: key.span(),
            value: value.get_ref(),
            span: value.span(),
        })
    }

    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => {
                self.unfit(key, value, "true or false", &format!("write `{key} = true` or `{key} = false`"));
                None
            }
        }
    }

    pub fn string(&self, key: &'static str) -> Option<(String, Range<usize>)> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some((text.to_string(), value.span())),
            _ => {
                self.unfit(key, value, "a string", "put it in quotes");
                None
            }
        }
    }

    /// A list of strings.
    pub fn strings(&self, key: &'static str) -> Option<Vec<(String, Range<usize>)>> {
        let value = self.value(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            self.unfit(key, value, "a list of strings", &format!("write `{key} = [\"…\"]`"));
            return None;
        };
        let mut out = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::String(text) => out.push((text.to_string(), item.span())),
                _ => self.unfit(key, item, "a list of strings", "put it in quotes"),
            }
        }
        Some(out)
    }

    pub fn path(&self, key: &'static str) -> Option<Utf8PathBuf> {
        let (text, span) = self.string(key)?;
        self.reading.path(&text, span)
    }

    /// A whole number within its bounds.
    pub fn number<T: Copy + Into<u64> + TryFrom<u64>>(&self, key: &'static str, bound: Bound<T>) -> Option<T> {
        let value = self.value(key)?;
        let (least, most) = (bound.least.into(), bound.most.into());
        let hint = format!("write a number from {least} to {most}, without quotes");
        let DeValue::Integer(integer) = value.get_ref() else {
            self.unfit(key, value, "a whole number", &hint);
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if (least..=most).contains(&number) => T::try_from(number).ok(),
            _ => {
                self.reading.problem(value.span(), format!("`{}` is out of range", self.under(key)), hint);
                None
            }
        }
    }

    /// CPUs' worth of time, whole or with a fraction, within its bounds.
    pub fn cpus(&self, key: &'static str, bound: Bound<Cpus>) -> Option<Cpus> {
        let value = self.value(key)?;
        let hint = format!("write a number from {} to {}, without quotes", bound.least, bound.most);
        let number = match value.get_ref() {
            DeValue::Integer(integer) => integer.as_str().parse::<f64>(),
            DeValue::Float(float) => float.as_str().parse::<f64>(),
            _ => {
                self.unfit(key, value, "a number of CPUs", &hint);
                return None;
            }
        };
        let cpus = number.ok().and_then(Cpus::new).filter(|cpus| (bound.least..=bound.most).contains(cpus));
        if cpus.is_none() {
            self.reading.problem(value.span(), format!("`{}` is out of range", self.under(key)), hint);
        }
        cpus
    }

    /// A duration within its bounds.
    pub fn duration(&self, key: &'static str, bound: Bound<Duration>) -> Option<Duration> {
        self.unit(key, bound, "a duration such as \"90s\"", units::duration, units::show_duration)
    }

    /// A size within its bounds.
    pub fn size(&self, key: &'static str, bound: Bound<u64>) -> Option<u64> {
        self.unit(key, bound, "a size such as \"64 MiB\"", units::size, units::show_size)
    }

    fn unit<T: Copy + PartialOrd>(
        &self,
        key: &'static str,
        bound: Bound<T>,
        wanted: &str,
        read: fn(&str) -> Result<T, units::UnitError>,
        show: fn(T) -> String,
    ) -> Option<T> {
        let value = self.value(key)?;
        let range = format!("write something from \"{}\" to \"{}\"", show(bound.least), show(bound.most));
        let DeValue::String(text) = value.get_ref() else {
            self.unfit(key, value, wanted, &range);
            return None;
        };
        match read(text) {
            Ok(read) if bound.least <= read && read <= bound.most => return Some(read),
            Ok(_) => self.reading.problem(value.span(), format!("`{}` is out of range", self.under(key)), range),
            Err(error) => self.reading.problem(value.span(), format!("`{}`: {}", self.under(key), error.message), error.hint),
        }
        None
    }

    /// Reports every key that nobody asked for. `elsewhere` may know where such a key belongs.
    pub fn close(self, elsewhere: impl Fn(&str) -> Option<String>) {
        let known = self.known.borrow();
        for (key, _) in self.table.iter() {
            let word = key.get_ref().as_ref();
            if known.contains(&word) {
                continue;
            }
            let place = if self.name.is_empty() { "at the top of the file".to_owned() } else { format!("in [{}]", self.name) };
            let hint = elsewhere(word)
                .or_else(|| nearest(word, &known).map(|near| format!("did you mean `{near}`?")))
                .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
            self.reading.problem(key.span(), format!("unknown key `{word}` {place}"), hint);
        }
    }
}

/// Where values stand that may be secrets: the strings under `env` and `secrets` of any backend's grants, but for names; and what
/// somebody took for the place of a password in a target or a tag.
pub(super) fn secrets_of(document: &DeTable<'_>) -> Vec<Range<usize>> {
    fn table<'r, 't>(of: &'r DeTable<'t>, key: &str) -> Option<&'r DeTable<'t>> {
        match of.iter().find(|(name, _)| name.get_ref() == key)?.1.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => None,
        }
    }
    fn strings(key: &str, value: &Spanned<DeValue<'_>>, out: &mut Vec<Range<usize>>) {
        match value.get_ref() {
            DeValue::Table(table) => table.iter().for_each(|(key, value)| strings(key.get_ref(), value, out)),
            DeValue::Array(items) if key != "command" => items.iter().for_each(|item| strings(key, item, out)),
            DeValue::String(_) if !["env", "file", "command"].contains(&key) => out.push(value.span()),
            _ => {}
        }
    }
    let mut out = Vec::new();
    for (_, backend) in table(document, "backends").into_iter().flat_map(|backends| backends.iter()) {
        let DeValue::Table(backend) = backend.get_ref() else { continue };
        let Some(grants) = table(backend, "grants") else { continue };
        for part in ["env", "secrets"] {
            for (key, value) in table(grants, part).into_iter().flat_map(|part| part.iter()) {
                strings(key.get_ref(), value, &mut out);
            }
        }
    }
    let mut words = |of: &DeTable<'_>| {
        let words = of.iter().filter(|(key, _)| ["password", "passphrase"].contains(&key.get_ref().as_ref()));
        words.for_each(|(key, value)| strings(key.get_ref(), value, &mut out));
    };
    for (key, value) in document.iter() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("targets", DeValue::Array(targets)) => {
                for target in targets.iter() {
                    if let DeValue::Table(target) = target.get_ref() {
                        words(target);
                    }
                }
            }
            ("tags", DeValue::Table(tags)) => {
                for (_, tag) in tags.iter() {
                    if let DeValue::Table(tag) = tag.get_ref() {
                        words(tag);
                    }
                }
            }
            _ => {}
        }
    }
    out
}

/// What a value is, for messages.
pub(super) const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value of the file as JSON; tables with their keys in order, so that equal files give equal texts.
pub(super) fn json(reading: &Reading<'_>, value: &DeValue<'_>, span: Range<usize>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Boolean(boolean) => Some(Value::Bool(*boolean)),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Some(number.into()),
            Err(_) => {
                reading.problem(span, "the number is too large", "write a number of at most 63 bits, or a string");
                None
            }
        },
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(serde_json::Number::from_f64);
            if number.is_none() {
                reading.problem(span, "the number has no form in JSON", "write a finite number, or a string");
            }
            number.map(Value::Number)
        }
        DeValue::Datetime(date) => Some(Value::String(date.to_string())),
        DeValue::Array(array) => {
            array.iter().map(|item| json(reading, item.get_ref(), item.span())).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        DeValue::Table(table) => {
            let mut map = serde_json::Map::new();
            for (key, item) in table.iter() {
                map.insert(key.get_ref().to_string(), json(reading, item.get_ref(), item.span())?);
            }
            map.sort_keys();
            Some(Value::Object(map))
        }
    }
}

/// The known word that is nearest to this one, where it is near enough to have been meant.
#[must_use]
pub fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(steps, candidate)| *steps <= 1 + candidate.len() / 4)
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, in characters, `-` and `_` being the same.
fn distance(one: &str, other: &str) -> usize {
    let letters = |word: &str| word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (to, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[to + 1];
            row[to + 1] = replaced.min(diagonal + 1).min(row[to] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["workspaces", "programs", "env", "hosts", "secrets"];
        assert_eq!(nearest("workspace", &known), Some("workspaces"));
        assert_eq!(nearest("Programs", &known), Some("programs"));
        assert_eq!(nearest("evn", &known), None);
        assert_eq!(nearest("envs", &known), Some("env"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("cwd-is-workspace", &["cwd_is_workspace"]), Some("cwd_is_workspace"));
    }
}
