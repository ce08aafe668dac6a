//! What the tests of every dialect do: read a request, hear an answer.

use http::HeaderMap;

use super::{Answer, Call, Dialect, NotStorable, Prompt, Rules, Shape, Unread};

/// A request without headers, under no rules, read.
pub(super) fn read(
    dialect: &dyn Dialect,
    path: &str,
    query: &str,
    body: &str,
) -> Result<Prompt, Unread> {
    let (headers, rules) = (HeaderMap::new(), Rules::default());
    dialect.read(Call { path, query, headers: &headers, body: body.as_bytes(), rules })
}

/// An answer heard in one piece.
pub(super) fn heard(
    dialect: &dyn Dialect,
    shape: Shape,
    body: &[u8],
) -> Result<Answer, NotStorable> {
    let mut ears = dialect.listener(shape);
    ears.hear(body);
    ears.finish(body)
}
