//! An error and its causes, on the one line that a user reads.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

/// The message of `error` and of every cause, separated by colons. A message
/// that repeats its cause's text is not printed twice.
#[must_use]
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            let _ = write!(text, ": {message}");
        }
        cause = error.source();
    }
    text.replace(['\n', '\r'], " ")
}

/// Writes `lines` to standard error as one write: others write there too, and
/// a message must not be torn apart by theirs.
pub(crate) fn tell(lines: &str) {
    let _ = std::io::stderr().write_all(format!("{lines}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot do it")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_on_the_same_line() {
        let error = Outer(std::io::Error::other("because\nof this"));
        assert_eq!(one_line(&error), "cannot do it: because of this");
    }
}
