//! One sequence, done by everybody.

use std::path::Path;

use crate::actor::{Actor, NodeId};
use crate::host::Host;
use crate::known::is_known;
use crate::operation::{Op, Slot, Step};
use crate::outcome::Outcome;

struct Node {
    is_directory: bool,
    is_regular: bool,
    /// Whether it was not forgotten.
    known: bool,
}

/// What there is, the same for everybody.
pub(crate) struct Run {
    nodes: Vec<Node>,
    /// The node of each open file.
    files: Vec<Option<NodeId>>,
    host: Host,
    servers: Vec<Box<dyn Actor>>,
}

impl Run {
    pub(crate) fn new(host: Host, servers: Vec<Box<dyn Actor>>) -> Self {
        let root = Node {
            is_directory: true,
            is_regular: false,
            known: true,
        };
        Self {
            nodes: vec![root],
            files: Vec::new(),
            host,
            servers,
        }
    }

    /// Does one step, and says in which way a server differs.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), String> {
        let Some(op) = self.resolve(&step.op) else {
            return Ok(());
        };
        if !self.host.would_be_asked(&step.caller, &op) {
            return Ok(());
        }
        // A file that is open for writing shows no holes: the guest may have
        // more of it than it has sent.
        let before = self.host.has_writers();
        let expected = self.host.perform(&step.caller, &op);
        let written = before || self.host.has_writers();
        let comparable = |outcome: Outcome| match written {
            true => outcome.without_blocks(),
            false => outcome,
        };
        let expected = comparable(expected);
        for server in &mut self.servers {
            let told = comparable(server.perform(&step.caller, &op));
            let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
            if op.names_nothing() && failed(&told) && failed(&expected) {
                continue;
            }
            if told != expected && !is_known(server.name(), &op, &expected, &told) {
                return Err(format!(
                    "{op:?} by {:?}: the host says {expected:?}, {} says {told:?}",
                    step.caller,
                    server.name()
                ));
            }
        }
        self.note(&op, &expected);
        Ok(())
    }

    fn node(&self, slot: Slot, fits: impl Fn(&Node) -> bool) -> Slot {
        let all = || (0..self.nodes.len()).filter(|node| self.nodes[*node].known);
        let mut fitting: Vec<NodeId> = all().filter(|node| fits(&self.nodes[*node])).collect();
        // One in four is one that does not fit.
        if slot % 4 == 3 || fitting.is_empty() {
            fitting = all().collect();
        }
        narrow(fitting[usize::from(slot) % fitting.len()])
    }

    fn any(&self, slot: Slot) -> Slot {
        self.node(slot, |_| true)
    }

    /// Where there is none, Linux does not ask.
    fn directory(&self, slot: Slot) -> Slot {
        let is = |node: &NodeId| self.nodes[*node].known && self.nodes[*node].is_directory;
        let all: Vec<NodeId> = (0..self.nodes.len()).filter(is).collect();
        narrow(all[usize::from(slot) % all.len()])
    }

    fn file(&self, slot: Slot) -> Option<Slot> {
        let open = (0..self.files.len()).filter(|file| self.files[*file].is_some());
        let open: Vec<NodeId> = open.collect();
        let at = usize::from(slot).checked_rem(open.len())?;
        Some(narrow(open[at]))
    }

    /// Slots as places in the lists; nothing when there is nothing to do it with.
    fn resolve(&self, op: &Op) -> Option<Op> {
        let mut op = op.clone();
        match &mut op {
            Op::Lookup(dir, _)
            | Op::Symlink(dir, ..)
            | Op::Mknod(dir, ..)
            | Op::Mkdir(dir, ..)
            | Op::Unlink(dir, _)
            | Op::Rmdir(dir, _)
            | Op::Create(dir, ..)
            | Op::Tmpfile(dir, ..)
            | Op::Fsyncdir(dir)
            | Op::List(dir, ..) => *dir = self.directory(*dir),
            Op::Forget(node) => {
                *node = self.any(*node);
                let place = NodeId::from(*node);
                if place == 0 || self.files.contains(&Some(place)) {
                    return None;
                }
            }
            Op::Getattr(node, file) | Op::Setattr(node, file, _) => {
                *node = self.any(*node);
                if let Some(file) = file {
                    *file = self.file(*file)?;
                    *node = narrow(self.files[usize::from(*file)]?);
                }
            }
            Op::Statx(node)
            | Op::Readlink(node)
            | Op::Setxattr(node, ..)
            | Op::Getxattr(node, ..)
            | Op::Listxattr(node, _)
            | Op::Removexattr(node, _)
            | Op::Access(node, _)
            | Op::Statfs(node) => *node = self.any(*node),
            Op::Rename(dir, _, to, ..) => {
                *dir = self.directory(*dir);
                *to = self.directory(*to);
            }
            Op::Link(node, dir, _) => {
                *node = self.any(*node);
                *dir = self.directory(*dir);
            }
            Op::Open(node, _) => *node = self.node(*node, |node| node.is_regular),
            Op::Read(file, ..)
            | Op::Write(file, ..)
            | Op::Flush(file, _)
            | Op::Release(file)
            | Op::Fsync(file, _)
            | Op::Fallocate(file, ..)
            | Op::Lseek(file, ..)
            | Op::Getlk(file, ..)
            | Op::Setlk(file, ..)
            | Op::Flock(file, _) => *file = self.file(*file)?,
            Op::Copy(from, _, to, ..) => {
                *from = self.file(*from)?;
                *to = self.file(*to)?;
            }
            Op::Syncfs => {}
        }
        Some(op)
    }

    /// Remembers what has become of the step.
    fn note(&mut self, op: &Op, outcome: &Outcome) {
        let mut node = None;
        if let Outcome::Node(attributes, known) = outcome {
            node = Some(known.unwrap_or(self.nodes.len()));
            if known.is_none() {
                let kind = attributes.mode & libc::S_IFMT;
                self.nodes.push(Node {
                    is_directory: kind == libc::S_IFDIR,
                    is_regular: kind == libc::S_IFREG,
                    known: true,
                });
            }
        }
        match (op, outcome) {
            (_, Outcome::Failed(_)) => {}
            (Op::Create(..) | Op::Tmpfile(..), _) => self.files.push(node),
            (Op::Open(node, _), _) => self.files.push(Some((*node).into())),
            (Op::Release(file), _) => self.files[usize::from(*file)] = None,
            (Op::Forget(node), _) => self.nodes[usize::from(*node)].known = false,
            _ => {}
        }
    }
}

fn narrow(place: NodeId) -> Slot {
    Slot::try_from(place).expect("a sequence is short")
}

/// Everything below a directory, a line each.
pub(crate) fn picture(root: &Path) -> Vec<String> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(at) = left.pop() {
        let about = at.symlink_metadata().unwrap();
        let mut contents = Vec::new();
        if about.is_dir() {
            left.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
        } else if about.is_symlink() {
            contents = std::fs::read_link(&at)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec();
        } else if about.is_file() && about.size() <= 1 << 22 {
            contents = std::fs::read(&at).unwrap();
        }
        let below = at.strip_prefix(root).unwrap().as_os_str().as_bytes();
        let size = if about.is_dir() { 0 } else { about.size() };
        let contents = hash_of(&contents);
        all.push(format!(
            "{} {:o} links {} {}:{} size {size} rdev {:x} {contents:x}",
            below.escape_ascii(),
            about.mode(),
            about.nlink(),
            about.uid(),
            about.gid(),
            about.rdev(),
        ));
    }
    all.sort();
    all
}

fn hash_of(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
