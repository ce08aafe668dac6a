//! Tools: which one a request makes us call, if any.

use serde_json::{Map, Value};

use crate::{api_error::ApiError, ask::present};

/// A call to make instead of answering in prose.
#[derive(Debug)]
pub(crate) struct ToolUse {
    /// The function's name.
    pub(crate) name: String,
    /// The JSON schema of its arguments.
    pub(crate) parameters: Value,
}

/// What `tool_choice` allows.
enum Choice {
    Never,
    WhenItFits,
    Always,
    Named(String),
}

/// The tool that `fields` demand, or that the question ("weather") suggests. After a tool's result
/// only a demand counts: otherwise an agent's loop would never come to its answer.
pub(crate) fn parse(
    fields: &Map<String, Value>,
    question: &str,
    after_tool: bool,
) -> Result<Option<ToolUse>, ApiError> {
    let mut tools = match present(fields, "tools") {
        None => Vec::new(),
        Some(Value::Array(items)) => items.iter().map(tool).collect::<Result<Vec<_>, _>>()?,
        Some(other) => return Err(ApiError::wrong_type("tools", "an array", other)),
    };
    let wanted = match choice(fields)? {
        Choice::Named(name) => {
            let index = tools.iter().position(|tool| tool.name == name);
            Some(index.ok_or_else(|| ApiError::bad_value("tool_choice", "no such tool"))?)
        }
        Choice::Always if tools.is_empty() => {
            return Err(ApiError::bad_value("tool_choice", "it needs 'tools'"));
        }
        Choice::Always => Some(0),
        Choice::WhenItFits if !after_tool && question.to_lowercase().contains("weather") => {
            (!tools.is_empty()).then_some(0)
        }
        Choice::WhenItFits | Choice::Never => None,
    };
    Ok(wanted.map(|index| tools.swap_remove(index)))
}

fn tool(value: &Value) -> Result<ToolUse, ApiError> {
    let name = value.pointer("/function/name").and_then(Value::as_str);
    let name = name.ok_or_else(|| ApiError::missing("tools[].function.name"))?.to_owned();
    let parameters = value.pointer("/function/parameters").cloned().unwrap_or_default();
    Ok(ToolUse { name, parameters })
}

fn choice(fields: &Map<String, Value>) -> Result<Choice, ApiError> {
    let Some(value) = present(fields, "tool_choice") else { return Ok(Choice::WhenItFits) };
    let named = value.pointer("/function/name").and_then(Value::as_str);
    match (value.as_str(), named) {
        (Some("none"), _) => Ok(Choice::Never),
        (Some("auto"), _) => Ok(Choice::WhenItFits),
        (Some("required"), _) => Ok(Choice::Always),
        (None, Some(name)) => Ok(Choice::Named(name.to_owned())),
        _ => Err(ApiError::bad_value("tool_choice", "no such choice")),
    }
}
