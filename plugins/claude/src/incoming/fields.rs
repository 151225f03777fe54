//! Reading fields, where any of them may be missing or of an odd shape.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A text; none where there is another value.
pub fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// The fields of a record; one that is null or of a wrong shape is left out and takes its default.
pub fn fields<T: DeserializeOwned + Default>(value: Value) -> T {
    let Value::Object(mut map) = value else { return T::default() };
    map.retain(|_, field| !field.is_null());
    if let Ok(record) = serde_json::from_value(Value::Object(map.clone())) {
        return record;
    }
    // One odd field must not cost the others: drop those without which the rest reads.
    let names: Vec<String> = map.keys().cloned().collect();
    for name in names {
        let alone = Map::from_iter([(name.clone(), map[&name].clone())]);
        if serde_json::from_value::<T>(Value::Object(alone)).is_err() {
            map.remove(&name);
        }
    }
    serde_json::from_value(Value::Object(map)).unwrap_or_default()
}
