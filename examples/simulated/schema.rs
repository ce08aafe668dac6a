//! An instance of a JSON schema: enough of the language for tool parameters and `json_schema`
//! formats (types, properties, items, enum, const, `$ref` into the document, anyOf/oneOf/allOf).

use serde_json::{Map, Number, Value};

use crate::stamp::Stamp;

/// Schemas may refer to themselves: deeper than this the instance is null.
const DEPTH_MAX: usize = 16;

/// Fills schemas with values drawn from a stamp; the first string it writes carries the stamp.
pub(crate) struct Instance<'a> {
    stamp: &'a Stamp,
    choice: usize,
    document: &'a Value,
    drawn: usize,
    text: Option<String>,
}

impl<'a> Instance<'a> {
    /// An instance of `document` for alternative `choice`; `text` is the first string in it.
    pub(crate) fn of(document: &'a Value, stamp: &'a Stamp, choice: usize, text: String) -> Value {
        let mut instance = Self { stamp, choice, document, drawn: 0, text: Some(text) };
        instance.value(document, 0)
    }

    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = self.document.pointer(target.trim_start_matches('#'));
            return target.map_or(Value::Null, |target| self.value(target, depth + 1));
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(options) = schema.get("enum").and_then(Value::as_array) {
            let index = self.draw() as usize % options.len().max(1);
            return options.get(index).cloned().unwrap_or_default();
        }
        for union in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema.get(union).and_then(|list| list.get(0)) {
                return self.value(first, depth + 1);
            }
        }
        self.typed(schema, depth)
    }

    fn typed(&mut self, schema: &Value, depth: usize) -> Value {
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
            Some(kind) => kind.as_str(),
            None => schema.get("properties").map(|_| "object"),
        };
        match kind {
            Some("object") => self.object(schema, depth),
            Some("array") => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                Value::Array(vec![self.value(items, depth + 1)])
            }
            Some("integer") => Value::from(self.draw() % 100),
            Some("number") => Number::from_f64((self.draw() % 1000) as f64 / 10.0)
                .map_or(Value::Null, Value::Number),
            Some("boolean") => Value::Bool(self.draw().is_multiple_of(2)),
            Some("null") => Value::Null,
            _ => Value::String(self.string()),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut object = Map::new();
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let value = self.value(property, depth + 1);
                object.insert(name.clone(), value);
            }
        }
        Value::Object(object)
    }

    fn string(&mut self) -> String {
        self.text.take().unwrap_or_else(|| format!("text {}", self.draw() % 1000))
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.stamp.draw(self.choice, self.drawn)
    }
}
