//! What a user should know of a run that goes on nevertheless.

use super::line;

/// The notes of a run, in order. Each is told at once, and `--report` has them all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes(Vec<String>);

impl Notes {
    /// Tells one.
    pub(crate) fn tell(&mut self, note: &str) {
        line::tell(&format!("vmm: note: {note}"));
        self.0.push(note.to_owned());
    }

    pub(crate) fn list(&self) -> &[String] {
        &self.0
    }
}
