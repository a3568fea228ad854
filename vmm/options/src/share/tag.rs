//! Tags: the names of virtio-fs devices.

use devices::virtio::fs::Tag;
use guest_init::protocol::SESSION_TAG;

use super::error::Error;

/// Bytes that a tag may have.
pub const MAX_TAG: usize = Tag::LONGEST;

/// Checks a tag that the user gave.
pub(super) fn check(bytes: &[u8]) -> Result<String, Error> {
    let not_text = || Error::TagNotText(String::from_utf8_lossy(bytes).into_owned());
    let tag = std::str::from_utf8(bytes).map_err(|_| not_text())?;
    match tag.len() {
        0 => Err(Error::EmptyTag),
        1..=MAX_TAG if tag == SESSION_TAG => Err(Error::ReservedTag),
        1..=MAX_TAG if tag.chars().any(is_refused) => Err(not_text()),
        1..=MAX_TAG => Ok(tag.to_owned()),
        length => Err(Error::TagTooLong {
            tag: tag.to_owned(),
            length,
            limit: MAX_TAG,
        }),
    }
}

/// Linux takes no tag with a newline (since 6.9), and a NUL ends one.
pub fn is_refused(letter: char) -> bool {
    matches!(letter, '\n' | '\0')
}
