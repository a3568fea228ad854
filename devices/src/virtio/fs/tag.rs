//! The name a share has in the guest: `mount -t virtiofs TAG /mnt`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Room for the tag in the configuration space (virtio 1.2, 5.11.4).
pub(super) const TAG_SPACE: usize = Tag::LONGEST;

/// A virtio-fs tag: 1 to 36 bytes of UTF-8 without a NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

/// Why a text is no tag.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TagError {
    /// It is empty.
    #[error("a tag cannot be empty: give one of 1 to {TAG_SPACE} bytes")]
    Empty,
    /// It does not fit.
    #[error("tag '{tag}' has {} bytes: give one of at most {TAG_SPACE}", tag.len())]
    TooLong {
        /// The text.
        tag: String,
    },
    /// The guest would take it for the end.
    #[error("tag '{}' has a NUL byte: give one without", tag.escape_default())]
    Nul {
        /// The text.
        tag: String,
    },
}

impl Tag {
    /// Length of the longest, in bytes.
    pub const LONGEST: usize = 36;

    /// Takes `tag` as a tag.
    ///
    /// # Errors
    ///
    /// It is empty, longer than 36 bytes, or has a NUL byte.
    pub fn new(tag: &str) -> Result<Self, TagError> {
        if tag.is_empty() {
            Err(TagError::Empty)
        } else if tag.len() > TAG_SPACE {
            Err(TagError::TooLong { tag: tag.into() })
        } else if tag.contains('\0') {
            Err(TagError::Nul { tag: tag.into() })
        } else {
            Ok(Self(tag.into()))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(tag: &str) -> Result<Self, TagError> {
        Self::new(tag)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_1_to_36_bytes_are_taken() {
        for tag in ["a", &"b".repeat(36), &"ü".repeat(18)] {
            assert_eq!(Tag::new(tag).unwrap().as_str(), tag);
        }
    }

    #[test]
    fn a_tag_that_cannot_be_says_why() {
        assert_eq!(Tag::new(""), Err(TagError::Empty));
        let long = Tag::new(&"ü".repeat(19)).unwrap_err();
        assert!(
            long.to_string()
                .ends_with("has 38 bytes: give one of at most 36")
        );
        let nul = Tag::new("a\0b").unwrap_err();
        assert_eq!(
            nul.to_string(),
            r"tag 'a\u{0}b' has a NUL byte: give one without"
        );
    }
}
