//! The guest's clock. Its kernel may start it seconds behind the host's, and
//! whatever compares times with the host's files wants it right.

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::protocol::WallTime;
use crate::session::Session;

/// Sets the clock by the host's, whichever is ahead. A guest with a wrong
/// clock still runs its command.
pub fn follow(session: &Session) {
    let set = session.host_time().ok_or(Errno::PROTO).and_then(set);
    if let Err(error) = set {
        eprintln!("guest-init: cannot set the clock by the host's: {error}");
    }
}

fn set(time: WallTime) -> Result<(), Errno> {
    clock_settime(ClockId::Realtime, timespec(time)?)
}

fn timespec(time: WallTime) -> Result<Timespec, Errno> {
    Ok(Timespec {
        tv_sec: i64::try_from(time.seconds).map_err(|_| Errno::OVERFLOW)?,
        tv_nsec: time.nanoseconds.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_kernels_or_none() {
        let time = |seconds| WallTime {
            seconds,
            nanoseconds: 42,
        };
        let expected = Timespec {
            tv_sec: 7,
            tv_nsec: 42,
        };
        assert_eq!(timespec(time(7)), Ok(expected));
        assert_eq!(timespec(time(u64::MAX)), Err(Errno::OVERFLOW));
    }
}
