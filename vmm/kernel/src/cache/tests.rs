//! What a cache does for kernels, and what is done to it.

use std::os::unix::fs::symlink;

use super::*;
use crate::samples::packed;
use crate::{Kernel, Origin};

const CONFIG: &str = "CONFIG_ACPI=y\nCONFIG_PCI=y\n";

/// A kernel and a cache that does not exist yet.
struct Place {
    top: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            top: tempfile::tempdir().unwrap(),
        };
        place.build(&packed(CONFIG));
        place
    }

    fn kernel(&self) -> PathBuf {
        self.top.path().join("bzImage")
    }

    fn directory(&self) -> PathBuf {
        self.top.path().join("cache/vmm/boot")
    }

    fn cache(&self) -> Cache {
        Cache::at(self.directory())
    }

    /// Writes the kernel where it is.
    fn build(&self, bytes: &[u8]) {
        fs::write(self.kernel(), bytes).unwrap();
    }

    /// The kernel as a run has it, by a clock that is an hour on.
    fn open(&self) -> (Kernel, Option<Origin>) {
        let kernel = Kernel::open_at(&self.kernel(), &self.cache(), later()).unwrap();
        let origin = loaded(&kernel);
        (kernel, origin)
    }

    fn origin(&self) -> Option<Origin> {
        self.open().1
    }

    /// The entry of the kernel.
    fn entry(&self) -> PathBuf {
        let file = File::open(self.kernel()).unwrap();
        self.directory().join(Identity::of(&file).unwrap().name())
    }

    /// With an entry that can be used.
    fn known() -> Self {
        let place = Self::new();
        assert_eq!(place.origin(), Some(Origin::Unpacked));
        assert_eq!(place.origin(), Some(Origin::Cache));
        place
    }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

/// What the kernel is loaded from.
fn loaded(kernel: &Kernel) -> Option<Origin> {
    let ranges = [(vm_memory::GuestAddress(0), 32 << 20)];
    let memory = vm_memory::GuestMemoryMmap::from_ranges(&ranges).unwrap();
    let loaded = kernel.load(&memory, 1 << 20, "quiet", false);
    Some(loaded.unwrap().origin)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_kernel_that_was_seen_is_not_unpacked_again() {
    let place = Place::known();
    let (kernel, _) = place.open();
    assert_eq!(kernel.release(), Some("6.1.0-test"));
    assert!(kernel.config().unwrap().has("CONFIG_ACPI"));
    // What is known comes from the entry and not from the file.
    let file = File::open(place.kernel()).unwrap();
    let identity = Identity::of(&file).unwrap();
    let (facts, _) = place.cache().find(&identity).unwrap();
    let other = Facts {
        version: Some("7.0.0 (nobody)".to_owned()),
        ..facts
    };
    place.cache().keep(&identity, &other, None);
    assert_eq!(place.open().0.release(), Some("7.0.0"));
}

#[test]
fn a_kernel_that_was_built_again_is_another() {
    let place = Place::known();
    let entry = place.entry();
    place.build(&packed("CONFIG_ACPI=n\n"));
    assert_eq!(place.entry(), entry, "built in its place");
    let (kernel, origin) = place.open();
    assert_eq!(origin, Some(Origin::Unpacked));
    assert!(!kernel.config().unwrap().has("CONFIG_ACPI"));
    assert_eq!(place.origin(), Some(Origin::Cache));
    assert_eq!(names(&place.directory()).len(), 1);
}

#[test]
fn a_kernel_that_was_built_a_moment_ago_is_not_kept() {
    let place = Place::new();
    let open = || Kernel::open_known(&place.kernel(), &place.cache()).unwrap();
    for _ in 0..2 {
        assert_eq!(loaded(&open()), Some(Origin::Unpacked));
        assert!(!place.directory().exists());
    }
}

#[test]
fn a_damaged_entry_is_made_anew() {
    let place = Place::known();
    let good = fs::read(place.entry()).unwrap();
    // Magic, identity, sizes, entry point, segments, texts, checksums, image.
    let places = [7, 20, 65, 73, 80, 84, 90, 115, 125, 165, good.len() - 1];
    let mut damaged: Vec<Vec<u8>> = places
        .iter()
        .map(|&at| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            bytes
        })
        .collect();
    damaged.extend([
        Vec::new(),
        good[..50].to_vec(),
        good[..good.len() / 2].to_vec(),
    ]);
    damaged.push([&good[..], b"more"].concat());
    for bytes in damaged {
        fs::write(place.entry(), &bytes).unwrap();
        assert_eq!(place.origin(), Some(Origin::Unpacked));
        assert_eq!(fs::read(place.entry()).unwrap(), good);
        assert_eq!(place.origin(), Some(Origin::Cache));
    }
}

#[test]
fn what_others_can_write_is_not_used() {
    let place = Place::known();
    let allow = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o620, 0o602] {
        allow(&place.entry(), mode);
        assert_eq!(place.origin(), Some(Origin::Unpacked));
        assert_eq!(place.origin(), Some(Origin::Cache), "made anew");
    }
    for mode in [0o770, 0o707] {
        allow(&place.directory(), mode);
        assert_eq!(place.origin(), Some(Origin::Unpacked));
        assert_eq!(place.origin(), Some(Origin::Unpacked));
    }
    allow(&place.directory(), 0o700);
    assert_eq!(place.origin(), Some(Origin::Cache));
}

#[test]
fn what_another_user_owns_is_not_used() {
    assert!(belongs(1000, 1000, 0o100_644) && belongs(1000, 0, 0o100_600));
    assert!(!belongs(1000, 1001, 0o100_600) && !belongs(0, 1000, 0o100_600));
    assert!(!belongs(1000, 1000, 0o100_664) && !belongs(1000, 0, 0o100_666));
}

#[test]
fn what_is_no_file_is_not_used() {
    let place = Place::known();
    let (entry, elsewhere) = (place.entry(), place.top.path().join("elsewhere"));
    fs::rename(&entry, &elsewhere).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    assert_eq!(place.origin(), Some(Origin::Unpacked));
    assert!(fs::symlink_metadata(&entry).unwrap().is_file());
    assert!(elsewhere.exists());
    fs::remove_file(&entry).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &entry, mode).unwrap();
    assert_eq!(place.origin(), Some(Origin::Unpacked));
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    assert_eq!(place.origin(), Some(Origin::Unpacked));
    assert_eq!(names(&place.directory()).len(), 1, "nothing unfinished");
}

#[test]
fn a_cache_that_cannot_be_made_is_none() {
    let place = Place::new();
    fs::write(place.top.path().join("cache"), "a file").unwrap();
    for _ in 0..2 {
        assert_eq!(place.origin(), Some(Origin::Unpacked));
    }
    let nowhere = Cache::at("/proc/self/nowhere/vmm".into());
    let kernel = Kernel::open_at(&place.kernel(), &nowhere, later()).unwrap();
    assert_eq!(loaded(&kernel), Some(Origin::Unpacked));
}

#[test]
fn who_only_looks_changes_nothing() {
    let place = Place::new();
    let cache = place.cache().read_only();
    let look = || Kernel::open_at(&place.kernel(), &cache, later()).unwrap();
    assert_eq!(loaded(&look()), Some(Origin::Unpacked));
    assert!(!place.directory().exists());
    assert_eq!(place.origin(), Some(Origin::Unpacked));
    let before = fs::metadata(place.entry()).unwrap().modified().unwrap();
    assert_eq!(loaded(&look()), Some(Origin::Cache));
    assert_eq!(loaded(&look().packed()), Some(Origin::File));
    let after = fs::metadata(place.entry()).unwrap().modified().unwrap();
    assert_eq!(before, after);
    fs::write(place.entry(), "damaged").unwrap();
    assert_eq!(loaded(&look()), Some(Origin::Unpacked));
    assert_eq!(fs::read(place.entry()).unwrap(), b"damaged");
}

#[test]
fn many_runs_at_once_agree() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let run = || (0..20).map(|_| place.origin()).collect::<Vec<_>>();
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        for run in runs {
            let origins = run.join().unwrap();
            assert!(!origins.contains(&Some(Origin::File)));
            assert_eq!(origins.last(), Some(&Some(Origin::Cache)));
        }
    });
    assert_eq!(names(&place.directory()).len(), 1);
}

#[test]
fn what_was_not_used_for_the_longest_time_goes() {
    let top = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let make = |name: &str, size: usize, age: u64| {
        let path = top.path().join(name);
        fs::write(&path, vec![0; size]).unwrap();
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    };
    for (name, age) in [("a", 40), ("b", 10), ("c", 30), ("d", 20)] {
        make(name, 100, age);
    }
    make(".unfinished-old", 1, 7200);
    make(".unfinished-new", 1, 5);
    bound(top.path(), "b", 3, 1000).unwrap();
    assert_eq!(names(top.path()), [".unfinished-new", "b", "c", "d"]);
    bound(top.path(), "b", 3, 250).unwrap();
    assert_eq!(names(top.path()), [".unfinished-new", "b", "d"]);
    // The one that was made just now stays, however large it is, or old by its clock.
    make("b", 1000, 500);
    bound(top.path(), "b", 3, 250).unwrap();
    assert_eq!(names(top.path()), [".unfinished-new", "b"]);
}

#[test]
fn what_is_used_is_not_what_goes() {
    let place = Place::known();
    let file = File::options().append(true).open(place.entry()).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    file.set_modified(long_ago).unwrap();
    assert_eq!(place.origin(), Some(Origin::Cache));
    let used = fs::metadata(place.entry()).unwrap().modified().unwrap();
    assert!(used > long_ago);
}
