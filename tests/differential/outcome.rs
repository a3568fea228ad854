//! What an operation comes to, in terms that do not depend on who did it.

use rustix::io::Errno;

/// What a node is like. Times that nobody set are [`When::Lately`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u32,
    pub(crate) size: u64,
    /// Where they do not depend on when the host allocates.
    pub(crate) blocks: Option<u64>,
    pub(crate) atime: When,
    pub(crate) mtime: When,
    pub(crate) ctime: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Lately,
    At(i64, u32),
}

impl When {
    /// The times that are set on purpose here are not of this year or the next.
    pub(crate) fn of(seconds: i64, nanoseconds: u32) -> Self {
        let lately = 1_700_000_000..2_100_000_000;
        match lately.contains(&seconds) {
            true => Self::Lately,
            false => Self::At(seconds, nanoseconds),
        }
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) attributes: Option<Attributes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// A node, which is the one in this slot if that was known already.
    Node(Attributes, Option<usize>),
    Attributes(Attributes),
    Bytes(Vec<u8>),
    Number(u64),
    /// Sorted; and whether it went on where it was told to.
    List(Vec<Listed>, bool),
    Names(Vec<Vec<u8>>),
    /// Block size, fragment size, longest name.
    Statistics(u64, u64, u64),
    /// Kind, first and last byte of a lock in the way.
    Lock(u8, u64, u64),
    Failed(Errno),
}

impl Outcome {
    /// The same without the number of blocks.
    pub(crate) fn without_blocks(self) -> Self {
        let less = |attributes| Attributes {
            blocks: None,
            ..attributes
        };
        match self {
            Self::Node(attributes, known) => Self::Node(less(attributes), known),
            Self::Attributes(attributes) => Self::Attributes(less(attributes)),
            Self::List(mut listed, went_on) => {
                for entry in &mut listed {
                    entry.attributes = entry.attributes.map(less);
                }
                Self::List(listed, went_on)
            }
            other => other,
        }
    }

    /// The same without what truncation changes of a node.
    pub(crate) fn but_for_truncation(&self) -> Self {
        match self {
            Self::Node(attributes, known) => Self::Node(
                Attributes {
                    size: 0,
                    blocks: None,
                    mtime: When::Lately,
                    ctime: When::Lately,
                    ..*attributes
                },
                *known,
            ),
            other => other.clone(),
        }
    }
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// The result of an operation that can fail.
pub(crate) fn of(result: Result<Outcome, Errno>) -> Outcome {
    result.unwrap_or_else(Outcome::Failed)
}
