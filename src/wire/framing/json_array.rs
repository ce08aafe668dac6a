//! The elements of one JSON list, each as soon as it is closed (Gemini without `alt=sse`).

use super::{Event, State};

/// Finds where elements begin and end; it does not check them: who reads them does.
pub(crate) struct Splitter {
    place: Place,
    element: Vec<u8>,
    depth: usize,
    text: Text,
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    /// Between elements.
    Inside,
    Element,
    After,
    Broken,
}

/// Where a byte stands with regard to quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    Escaped,
}

impl Splitter {
    pub(super) fn new(limit: usize) -> Self {
        let (place, text) = (Place::Before, Text::Outside);
        Self { place, element: Vec::new(), depth: 0, text, limit }
    }

    pub(super) fn state(&self) -> State {
        match self.place {
            Place::After => State::Even,
            Place::Broken => State::Broken,
            Place::Before | Place::Inside | Place::Element => State::Open,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Event<'_>)) {
        for byte in bytes {
            self.byte(*byte, &mut each);
        }
    }

    fn byte(&mut self, byte: u8, each: &mut impl FnMut(Event<'_>)) {
        match (self.place, byte) {
            (Place::Broken, _) => {}
            (Place::Element, _) => self.inside(byte, each),
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (Place::Before, b'[') => self.place = Place::Inside,
            (Place::Inside, b',') => {}
            (Place::Inside, b']') => self.place = Place::After,
            (Place::Inside, b'{') => {
                self.place = Place::Element;
                self.inside(byte, each);
            }
            // Elements are objects in every API that streams so.
            (Place::Before | Place::Inside | Place::After, _) => self.place = Place::Broken,
        }
    }

    fn inside(&mut self, byte: u8, each: &mut impl FnMut(Event<'_>)) {
        if self.element.len() >= self.limit {
            self.place = Place::Broken;
            return;
        }
        self.element.push(byte);
        self.text = match (self.text, byte) {
            (Text::Inside, b'\\') => Text::Escaped,
            (Text::Escaped, _) => Text::Inside,
            (Text::Inside, b'"') => Text::Outside,
            (Text::Outside, b'"') => Text::Inside,
            (text, _) => text,
        };
        if self.text != Text::Outside {
            return;
        }
        match byte {
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if self.depth == 0 {
            each(Event { kind: b"", data: &self.element });
            self.element.clear();
            self.place = Place::Inside;
        }
    }
}
