//! Amounts of memory as users write them: `512M`, `2G`, `1024`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// Why a text is no size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each says itself what it is.
pub enum Error {
    #[error("write a whole number of MiB, or one with K, M, G or T: for example 512M or 2G")]
    Syntax,
    #[error("that is more than a 64-bit machine can have: write a smaller number")]
    TooLarge,
}

impl Size {
    /// A size of `mebibytes` MiB.
    #[must_use]
    pub const fn from_mebibytes(mebibytes: u32) -> Self {
        Self((mebibytes as u64) << 20)
    }

    /// A size of `bytes` bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let shift = match unit.to_ascii_uppercase().as_str() {
            "K" | "KB" | "KIB" => 10,
            // Memory is given in MiB everywhere else, so this is what a bare
            // number means.
            "" | "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => return Err(Error::Syntax),
        };
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(Error::Syntax);
        }
        let number: u64 = digits.parse().map_err(|_| Error::TooLarge)?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or(Error::TooLarge)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0"),
            bytes if bytes % (1 << 40) == 0 => write!(f, "{}T", bytes >> 40),
            bytes if bytes % (1 << 30) == 0 => write!(f, "{}G", bytes >> 30),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}M", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{}K", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024_and_mebibytes_by_default() {
        let bytes = |text: &str| text.parse::<Size>().unwrap().bytes();
        assert_eq!(bytes("512"), 512 << 20);
        assert_eq!(bytes("512M"), 512 << 20);
        assert_eq!(bytes("2g"), 2 << 30);
        assert_eq!(bytes("4096K"), 4 << 20);
        assert_eq!(bytes("1GiB"), 1 << 30);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "-1M", "1.5G", "12Q", "1 G", "0x10", "١M"] {
            assert_eq!(text.parse::<Size>(), Err(Error::Syntax), "{text:?}");
        }
    }

    #[test]
    fn a_size_beyond_64_bits_is_refused() {
        assert_eq!("99999999999T".parse::<Size>(), Err(Error::TooLarge));
        assert_eq!("99999999999999999999".parse::<Size>(), Err(Error::TooLarge));
    }

    #[test]
    fn a_size_prints_in_its_largest_whole_unit() {
        assert_eq!(Size::from_mebibytes(1536).to_string(), "1536M");
        assert_eq!(Size::from_mebibytes(2048).to_string(), "2G");
        let tebibytes = "100000T".parse::<Size>().unwrap();
        assert_eq!(tebibytes.to_string(), "100000T");
        assert_eq!(Size::from_bytes(0).to_string(), "0");
        assert_eq!(Size::from_bytes(4096).to_string(), "4K");
        assert_eq!(Size::from_bytes(4097).to_string(), "4097 bytes");
    }
}
