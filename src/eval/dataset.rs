//! The file that is replayed.

use std::collections::HashMap;

use serde::Deserialize;

/// What keeps a file from being evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A line is not a JSON object with the fields of one of the three kinds.
    #[error("line {line}: {problem}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing to replay.
    #[error(
        "the file holds no rows; expected one JSON object a line with prompt and class, a and b and same, or prompt and answer"
    )]
    Empty,
    /// The embedder failed or returned something else than was asked for.
    #[error("embedding failed: {0}")]
    Embed(String),
    /// Too much for one run.
    #[error("{rows} rows are more than the {limit} that one evaluation takes; sample the file")]
    TooLarge {
        /// Rows in the file.
        rows: usize,
        /// Rows allowed.
        limit: usize,
    },
}

/// Rows beyond which the neighbour lists would need hours and many gigabytes.
const MOST_ROWS: usize = 200_000;

/// A labelled pair of questions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pair {
    /// Index of the stored question among the texts.
    pub stored: usize,
    /// Index of the new question.
    pub asked: usize,
    /// Whether one answer may serve both.
    pub same: bool,
    /// Kind, for the table by kind; empty when the file names none.
    pub kind: String,
}

/// How right is told from wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Truth {
    /// Questions of one class may share an answer; one class a row.
    Classes(Vec<usize>),
    /// Answers to compare; one a row.
    Answers(Vec<String>),
    /// Labelled pairs of rows.
    Pairs(Vec<Pair>),
}

/// A file, read and checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dataset {
    /// Questions. In a stream and a log one a row; for pairs each distinct text once.
    pub texts: Vec<String>,
    /// Labels.
    pub truth: Truth,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawRow {
    Pair {
        a: String,
        b: String,
        same: bool,
        #[serde(default)]
        kind: String,
    },
    Stream {
        prompt: String,
        class: Class,
    },
    Log {
        prompt: String,
        answer: String,
    },
}

/// Classes are names or numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Class {
    Name(String),
    Number(i64),
}

impl Dataset {
    /// Reads JSON lines; every row must be of the kind of the first.
    pub fn read(text: &str) -> Result<Self, EvalError> {
        let mut dataset = Self { texts: vec![], truth: Truth::Classes(vec![]) };
        let mut classes: HashMap<String, usize> = HashMap::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        for (at, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let wrong = |problem: String| EvalError::Line { line: at + 1, problem };
            let row: RawRow = serde_json::from_str(line).map_err(|_| wrong(describe(line)))?;
            let first = dataset.texts.is_empty();
            dataset
                .push(row, first, &mut classes, &mut index)
                .map_err(|problem| wrong(problem.to_owned()))?;
        }
        match dataset.texts.len() {
            0 => Err(EvalError::Empty),
            rows if rows > MOST_ROWS => Err(EvalError::TooLarge { rows, limit: MOST_ROWS }),
            _ => Ok(dataset),
        }
    }

    /// Labelled rows.
    pub fn rows(&self) -> usize {
        match &self.truth {
            Truth::Classes(classes) => classes.len(),
            Truth::Answers(answers) => answers.len(),
            Truth::Pairs(pairs) => pairs.len(),
        }
    }

    fn push(
        &mut self,
        row: RawRow,
        first: bool,
        classes: &mut HashMap<String, usize>,
        index: &mut HashMap<String, usize>,
    ) -> Result<(), &'static str> {
        const MIXED: &str = "another kind of row than the first one";
        match row {
            RawRow::Stream { prompt, class } => {
                let name = match class {
                    Class::Name(name) => name,
                    Class::Number(number) => number.to_string(),
                };
                let fresh = classes.len();
                let Truth::Classes(labels) = &mut self.truth else { return Err(MIXED) };
                labels.push(*classes.entry(name).or_insert(fresh));
                self.texts.push(prompt);
            }
            RawRow::Log { prompt, answer } => {
                if first {
                    self.truth = Truth::Answers(vec![]);
                }
                let Truth::Answers(answers) = &mut self.truth else { return Err(MIXED) };
                answers.push(answer);
                self.texts.push(prompt);
            }
            RawRow::Pair { a, b, same, kind } => {
                if first {
                    self.truth = Truth::Pairs(vec![]);
                }
                let mut place = |text: String, texts: &mut Vec<String>| {
                    *index.entry(text).or_insert_with_key(|text| {
                        texts.push(text.clone());
                        texts.len() - 1
                    })
                };
                let (stored, asked) = (place(a, &mut self.texts), place(b, &mut self.texts));
                let Truth::Pairs(pairs) = &mut self.truth else { return Err(MIXED) };
                pairs.push(Pair { stored, asked, same, kind });
            }
        }
        Ok(())
    }
}

fn describe(line: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(line) {
        Err(error) => format!("not JSON: {error}"),
        Ok(serde_json::Value::Object(fields)) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!(
                "has the fields {}; expected prompt and class, a and b and same, or prompt and answer",
                names.join(", ")
            )
        }
        Ok(_) => "not a JSON object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_kinds_are_told_apart() {
        let stream =
            Dataset::read("{\"prompt\":\"x\",\"class\":\"c\"}\n\n{\"prompt\":\"y\",\"class\":7}")
                .unwrap();
        assert_eq!(stream.truth, Truth::Classes(vec![0, 1]));
        let log = Dataset::read(
            "{\"prompt\":\"x\",\"answer\":\"Yes.\"}\n{\"prompt\":\"y\",\"answer\":\"yes\"}",
        )
        .unwrap();
        assert_eq!(log.truth, Truth::Answers(vec!["Yes.".into(), "yes".into()]));
        let pairs = Dataset::read("{\"a\":\"x\",\"b\":\"y\",\"same\":true,\"kind\":\"k\"}\n{\"a\":\"y\",\"b\":\"z\",\"same\":false}").unwrap();
        assert_eq!(pairs.texts, ["x", "y", "z"]);
    }

    #[test]
    fn bad_files_are_explained() {
        let error = |text: &str| Dataset::read(text).unwrap_err().to_string();
        assert!(error("{\"prompt\":\"x\",\"class\":\"c\"}\nnope").starts_with("line 2: not JSON"));
        assert!(error("{\"question\":\"x\"}").contains("has the fields question"));
        assert!(
            error("{\"prompt\":\"x\",\"class\":\"c\"}\n{\"prompt\":\"x\",\"answer\":\"c\"}")
                .contains("another kind")
        );
        assert!(error("\n \n").contains("no rows"));
    }
}
