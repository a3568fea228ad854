//! Turns the plan's `NAME=value` strings into an environment.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::protocol::Text;

/// The name and value of each variable; a string without `=` names a variable
/// with an empty value. Only the first `=` separates.
pub fn variables(texts: &[Text]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    texts.iter().map(|text| {
        let bytes = text.as_os_str().as_bytes();
        let mut parts = bytes.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        (OsStr::from_bytes(name), OsStr::from_bytes(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_equals_sign_separates() {
        let texts = [Text::from("A=b=c"), Text::from("B=")];
        let pairs: Vec<_> = variables(&texts).collect();
        assert_eq!(
            pairs,
            [("A".as_ref(), "b=c".as_ref()), ("B".as_ref(), "".as_ref())]
        );
    }
}
