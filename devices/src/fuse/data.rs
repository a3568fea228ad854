//! File data, moved straight between a file and the guest's pages.
//!
//! [`ReplyPages`] and [`RequestPages`] are what a file system sees of a READ
//! and a WRITE. Each transfer is one vectored system call on the pages
//! themselves; nothing is copied on the way.

use std::fs::File;
use std::io::{self, Write};

use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use rustix::io::Errno;

use self::appending::Appending;
use self::borrowed::Borrowed;
use crate::filesystem::{Position, ReplyData, RequestData, Result};

/// The pages that take the data of a READ.
pub(super) struct ReplyPages<'w, 'a> {
    writer: &'w mut VirtioFsWriter<'a>,
    space: usize,
    filled: usize,
}

impl<'w, 'a> ReplyPages<'w, 'a> {
    /// The next `space` bytes of `writer`, which must have as many.
    pub(super) fn new(writer: &'w mut VirtioFsWriter<'a>, space: usize) -> Self {
        Self {
            writer,
            space,
            filled: 0,
        }
    }

    /// Bytes put so far.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    fn advance(&mut self, count: usize) {
        self.space = self.space.saturating_sub(count);
        self.filled += count;
    }
}

impl ReplyData for ReplyPages<'_, '_> {
    fn space(&self) -> usize {
        self.space
    }

    fn fill_from(&mut self, file: &File, count: usize, position: Position) -> Result<usize> {
        let count = count.min(self.space);
        let mut file = Borrowed::new(file);
        let count = match position {
            Position::At(offset) => {
                self.writer
                    .write_from_at(file.as_mut(), count, checked_offset(offset)?)
            }
            Position::Current => self.writer.write_from(file.as_mut(), count),
            Position::End => return Err(Errno::INVAL),
        }
        .map_err(|error| errno(&error))?;
        self.advance(count);
        Ok(count)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.space {
            return Err(Errno::IO);
        }
        self.writer
            .write_all(bytes)
            .map_err(|error| errno(&error))?;
        self.advance(bytes.len());
        Ok(())
    }
}

/// The pages that hold the data of a WRITE.
pub(super) struct RequestPages<'b, 'a> {
    reader: &'b mut Reader<'a>,
    remaining: usize,
}

impl<'b, 'a> RequestPages<'b, 'a> {
    /// The next `remaining` bytes of `reader`.
    pub(super) fn new(reader: &'b mut Reader<'a>, remaining: usize) -> Self {
        Self { reader, remaining }
    }
}

impl RequestData for RequestPages<'_, '_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn drain_to(&mut self, file: &File, count: usize, position: Position) -> Result<usize> {
        let count = count.min(self.remaining);
        let mut file = Borrowed::new(file);
        let count = match position {
            Position::At(offset) => {
                self.reader
                    .read_to_at(file.as_mut(), count, checked_offset(offset)?)
            }
            Position::Current => self.reader.read_to(file.as_mut(), count),
            Position::End => self.reader.read_to(Appending(file.as_mut()), count),
        }
        .map_err(|error| errno(&error))?;
        self.remaining = self.remaining.saturating_sub(count);
        Ok(count)
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() > self.remaining {
            return Err(Errno::IO);
        }
        io::Read::read_exact(self.reader, bytes).map_err(|error| errno(&error))?;
        self.remaining = self.remaining.saturating_sub(bytes.len());
        Ok(())
    }
}

/// `offset` where `off_t` can hold it, as the system calls want.
fn checked_offset(offset: u64) -> Result<u64> {
    i64::try_from(offset)
        .map(|_| offset)
        .map_err(|_| Errno::INVAL)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A file that takes data at its end.
mod appending {
    #![allow(unsafe_code)]

    use std::fs::File;
    use std::io::{Error, ErrorKind, Result};
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd;

    use fuse_backend_rs::common::file_buf::FileVolatileSlice;
    use fuse_backend_rs::common::file_traits::FileReadWriteVolatile;

    /// The most buffers that one system call takes (`UIO_MAXIOV`).
    const MOST: usize = 1024;

    /// A file every write to which goes to its end, as with `O_APPEND`.
    pub(super) struct Appending<'f>(pub(super) &'f File);

    impl FileReadWriteVolatile for Appending<'_> {
        fn read_volatile(&mut self, _: FileVolatileSlice<'_>) -> Result<usize> {
            Err(ErrorKind::Unsupported.into())
        }

        fn read_at_volatile(&mut self, _: FileVolatileSlice<'_>, _: u64) -> Result<usize> {
            Err(ErrorKind::Unsupported.into())
        }

        fn write_volatile(&mut self, buffer: FileVolatileSlice<'_>) -> Result<usize> {
            self.write_vectored_volatile(&[buffer])
        }

        fn write_at_volatile(&mut self, buffer: FileVolatileSlice<'_>, _: u64) -> Result<usize> {
            self.write_vectored_volatile(&[buffer])
        }

        fn write_vectored_volatile(&mut self, buffers: &[FileVolatileSlice<'_>]) -> Result<usize> {
            let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; MOST];
            for (part, buffer) in parts.iter_mut().zip(buffers) {
                part.write(libc::iovec {
                    iov_base: buffer.as_ptr().cast(),
                    iov_len: buffer.len(),
                });
            }
            // At most MOST.
            let count = libc::c_int::try_from(buffers.len().min(MOST)).unwrap_or_default();
            // SAFETY: the first `count` of `parts` were written just now, one for
            // each buffer, and describe memory that `buffers` borrows for longer
            // than the call. The kernel only reads it; the guest may write to it
            // meanwhile, which changes the bytes and nothing else.
            let written = unsafe {
                libc::pwritev2(
                    self.0.as_raw_fd(),
                    parts.as_ptr().cast(),
                    count,
                    0,
                    libc::RWF_APPEND,
                )
            };
            usize::try_from(written).map_err(|_| Error::last_os_error())
        }
    }
}

/// A file that is lent, in the form the transport wants it.
mod borrowed {
    #![allow(unsafe_code)]

    use std::fs::File;
    use std::marker::PhantomData;
    use std::mem::ManuallyDrop;
    use std::os::fd::{AsRawFd, FromRawFd};

    /// A borrowed file as an owned value: the transport does I/O on
    /// `&mut File` only, though no transfer changes a `File`.
    pub(super) struct Borrowed<'f> {
        file: ManuallyDrop<File>,
        lender: PhantomData<&'f File>,
    }

    impl<'f> Borrowed<'f> {
        pub(super) fn new(file: &'f File) -> Self {
            Self {
                // SAFETY: the descriptor is open and stays open for 'f, which
                // this value does not outlive. `ManuallyDrop` keeps it from
                // being closed a second time on every path out. Its number
                // comes from the host's kernel; the guest has no say in it.
                file: ManuallyDrop::new(unsafe { File::from_raw_fd(file.as_raw_fd()) }),
                lender: PhantomData,
            }
        }

        pub(super) fn as_mut(&mut self) -> &mut File {
            &mut self.file
        }
    }
}
