//! The session: a small file system, exported to the guest under a reserved
//! tag, through which the guest's init gets its plan, carries the command's
//! streams and reports how the command ended.
//!
//! Its files and what they say are in [`guest_init::protocol`]. It needs
//! nothing of the guest but virtiofs, which is there anyhow, and keeps the
//! streams apart from each other and from the kernel's console.
//!
//! The guest is untrusted: whatever it writes is bounded in size and parsed
//! strictly, and the only things of the host it reaches are the three streams
//! that `vmm` was given.

mod file;
mod input;
mod news;
mod output;
mod status;

use std::ffi::CStr;
use std::fs::File;
use std::time::{Duration, Instant};

use devices::filesystem::{
    AttributeOperations, Attributes, CreateOperations, DirectoryEntry, DirectoryOperations, Entry,
    FileOperations, FileSystem, Handle, IoctlOperations, Listing, LockOperations, LookupOperations,
    MappingOperations, NodeId, OpenArgs, OpenBehaviour, Opened, ReadArgs, ReleaseArgs,
    RemoveOperations, ReplyData, Request, RequestData, Result, SetAttributes, Statistics,
    WriteArgs, XattrOperations,
};
use guest_init::protocol::{Mark, Plan, Status, WallTime, WindowSize};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use file::Node;
use input::Input;
use news::News;
use output::Output;
use status::StatusReport;

/// How long the guest may keep names and attributes: they do not change, and
/// what the files hold is read directly, past its caches.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// The host's ends of the command's streams.
#[derive(Debug)]
pub struct Streams {
    /// What the command reads; `None` for nothing at all.
    pub stdin: Option<File>,
    /// Where its output goes.
    pub stdout: File,
    /// Where its error messages go.
    pub stderr: File,
}

/// The session's file system.
pub struct Session {
    plan: Vec<u8>,
    input: Input,
    stdout: Output,
    stderr: Output,
    status: StatusReport,
    window: News<WindowSize>,
    signal: News<Option<i32>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// A session for `plan`. `reported` is called once, when the guest has
    /// said how its command ended.
    ///
    /// # Errors
    ///
    /// When the plan has no form in JSON.
    pub fn new(
        plan: &Plan,
        streams: Streams,
        reported: impl Fn() + Send + Sync + 'static,
    ) -> serde_json::Result<Self> {
        Ok(Self {
            plan: serde_json::to_vec(plan)?,
            input: Input::new(streams.stdin),
            stdout: Output::new(streams.stdout),
            stderr: Output::new(streams.stderr),
            status: StatusReport::new(reported),
            window: News::new(plan.terminal.unwrap_or_default()),
            signal: News::new(None),
        })
    }

    /// How the command ended, if the guest has said so.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status.get()
    }

    /// The streams that could not take all that the command wrote, and why.
    pub fn lost_output(&self) -> impl Iterator<Item = (&'static str, Errno)> {
        let streams = [
            ("standard output", self.stdout.lost()),
            ("standard error", self.stderr.lost()),
        ];
        (streams.into_iter()).filter_map(|(stream, lost)| Some((stream, lost?)))
    }

    /// When the guest reached `mark`.
    #[must_use]
    pub fn reached(&self, mark: Mark) -> Option<Instant> {
        self.status.reached(mark)
    }

    /// What the guest says of `/proc/sys/kernel/tainted`.
    #[must_use]
    pub fn taint(&self) -> Option<u64> {
        self.status.taint()
    }

    /// The host's terminal has another size.
    pub fn resize(&self, size: WindowSize) {
        self.window.set(size);
    }

    /// Has the init pass a signal on to the command.
    pub fn signal(&self, number: i32) {
        self.signal.set(Some(number));
    }

    fn attributes(&self, node: Node) -> Attributes {
        Attributes {
            ino: node.inode(),
            size: match node {
                Node::Plan => self.plan.len() as u64,
                _ => 0,
            },
            mode: node.mode(),
            nlink: 1,
            blksize: 4096,
            ..Attributes::default()
        }
    }
}

impl FileSystem for Session {
    fn is_stream(&self, node: NodeId) -> bool {
        matches!(
            Node::of(node),
            Some(Node::Stdin | Node::WindowSize | Node::Signal | Node::Stdout | Node::Stderr)
        )
    }
}

impl LookupOperations for Session {
    fn lookup(&self, request: &Request<'_>, name: &CStr) -> Result<Entry> {
        if Node::of(request.node) != Some(Node::Root) {
            return Err(Errno::NOTDIR);
        }
        let node = Node::named(name.to_bytes()).ok_or(Errno::NOENT)?;
        Ok(Entry {
            inode: node.inode(),
            generation: 0,
            attributes: self.attributes(node),
            attr_timeout: FOR_EVER,
            entry_timeout: FOR_EVER,
        })
    }
}

impl AttributeOperations for Session {
    fn getattr(
        &self,
        request: &Request<'_>,
        _handle: Option<Handle>,
    ) -> Result<(Attributes, Duration)> {
        Ok((self.attributes(node(request.node)?), FOR_EVER))
    }

    fn setattr(
        &self,
        request: &Request<'_>,
        _handle: Option<Handle>,
        changes: &SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        // Opening with O_TRUNC sets the size to 0, which these files have.
        let truncate = SetAttributes {
            size: Some(0),
            mtime: changes.mtime,
            ctime: changes.ctime,
            kill_privileges: changes.kill_privileges,
            ..SetAttributes::default()
        };
        let node = node(request.node)?;
        if *changes != truncate || !node.is_writable() {
            return Err(Errno::PERM);
        }
        Ok((self.attributes(node), FOR_EVER))
    }

    fn access(&self, request: &Request<'_>, _mask: u32) -> Result<()> {
        node(request.node).map(drop)
    }

    fn statfs(&self, _request: &Request<'_>) -> Result<Statistics> {
        Ok(Statistics {
            block_size: 4096,
            fragment_size: 4096,
            name_max: 255,
            ..Statistics::default()
        })
    }
}

impl FileOperations for Session {
    fn open(&self, request: &Request<'_>, args: OpenArgs) -> Result<Opened> {
        let node = node(request.node)?;
        node.check_access(args.flags)?;
        Ok(Opened {
            handle: request.node,
            behaviour: OpenBehaviour {
                direct_io: true,
                stream: node.is_stream(),
                no_flush: true,
                ..OpenBehaviour::default()
            },
        })
    }

    fn read(
        &self,
        request: &Request<'_>,
        args: &ReadArgs,
        data: &mut dyn ReplyData,
    ) -> Result<usize> {
        let size = data.space().min(args.size as usize);
        match node(request.node)? {
            Node::Plan => {
                let start = usize::try_from(args.offset).map_err(|_| Errno::INVAL)?;
                let rest = self.plan.get(start..).unwrap_or_default();
                let part = rest.get(..size).unwrap_or(rest);
                data.put(part)?;
                Ok(part.len())
            }
            Node::Stdin => self.input.read(request, data, size),
            Node::WindowSize => {
                let size = self.window.next(request)?;
                let json = serde_json::to_vec(&size).map_err(|_| Errno::IO)?;
                data.put(&json)?;
                Ok(json.len())
            }
            Node::Signal => {
                let number = self.signal.next(request)?.unwrap_or_default();
                let text = number.to_string();
                data.put(text.as_bytes())?;
                Ok(text.len())
            }
            Node::Clock => {
                let text = now().to_string();
                data.put(text.as_bytes())?;
                Ok(text.len())
            }
            Node::Root => Err(Errno::ISDIR),
            Node::Stdout | Node::Stderr | Node::Status | Node::Mark | Node::Tainted => {
                Err(Errno::BADF)
            }
        }
    }

    fn write(
        &self,
        request: &Request<'_>,
        args: &WriteArgs,
        data: &mut dyn RequestData,
    ) -> Result<usize> {
        let size = args.size as usize;
        match node(request.node)? {
            Node::Stdout => self.stdout.write(request, data, size),
            Node::Stderr => self.stderr.write(request, data, size),
            Node::Status => self.status.write_status(data, size),
            Node::Mark => self.status.write_mark(data, size),
            Node::Tainted => self.status.write_taint(data, size),
            Node::Root => Err(Errno::ISDIR),
            Node::Plan | Node::Stdin | Node::WindowSize | Node::Clock | Node::Signal => {
                Err(Errno::BADF)
            }
        }
    }

    fn release(&self, _request: &Request<'_>, _args: ReleaseArgs) -> Result<()> {
        Ok(())
    }
}

impl DirectoryOperations for Session {
    fn opendir(&self, request: &Request<'_>) -> Result<Opened> {
        match node(request.node)? {
            Node::Root => Ok(Opened {
                handle: request.node,
                behaviour: OpenBehaviour::default(),
            }),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn readdir(
        &self,
        request: &Request<'_>,
        _handle: Handle,
        offset: u64,
        listing: &mut dyn Listing,
    ) -> Result<()> {
        if node(request.node)? != Node::Root {
            return Err(Errno::NOTDIR);
        }
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (node, next_offset) in Node::FILES.into_iter().zip(1..).skip(skip) {
            let entry = DirectoryEntry {
                ino: node.inode(),
                next_offset,
                kind: u32::from(libc::DT_REG),
                name: node.name().as_bytes(),
            };
            if !listing.push(entry, None) {
                break;
            }
        }
        Ok(())
    }

    fn releasedir(&self, _request: &Request<'_>, _handle: Handle) -> Result<()> {
        Ok(())
    }
}

impl CreateOperations for Session {}

impl RemoveOperations for Session {}

impl XattrOperations for Session {}
impl LockOperations for Session {}
impl IoctlOperations for Session {}

impl MappingOperations for Session {}

/// What time it is.
fn now() -> WallTime {
    let now = clock_gettime(ClockId::Realtime);
    WallTime {
        // Neither is negative after 1970.
        seconds: u64::try_from(now.tv_sec).unwrap_or(0),
        nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0),
    }
}

fn node(inode: NodeId) -> Result<Node> {
    Node::of(inode).ok_or(Errno::STALE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
