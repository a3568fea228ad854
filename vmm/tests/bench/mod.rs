//! What tests of the `vmm` command as a process have in common.

#![allow(dead_code)] // Not every one needs everything.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A scratch directory with a share and something that passes for a kernel.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("share")).unwrap();
        fs::write(directory.path().join("bzImage"), bzimage()).unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn vmm(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmm"));
        command.current_dir(&self.directory).args(arguments);
        command.output().unwrap()
    }

    /// Runs `vmm run` with a kernel and these arguments, expects a mistake,
    /// and returns its message.
    pub(crate) fn mistake(&self, arguments: &[&str]) -> String {
        self.failure(&[&["run", "--kernel", "bzImage"], arguments].concat())
    }

    pub(crate) fn failure(&self, arguments: &[&str]) -> String {
        let output = self.vmm(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.starts_with("vmm: error: "), "{message}");
        assert!(output.stdout.is_empty());
        message
    }

    pub(crate) fn dry_run(&self, arguments: &[&str]) -> serde_json::Value {
        let base = ["run", "--dry-run", "--kernel", "bzImage"];
        let output = self.vmm(&[&base, arguments].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The least that is a bzImage: a setup header (boot protocol 2.15) and a
/// payload of zeros, of which nothing can be read.
pub(crate) fn bzimage() -> Vec<u8> {
    let mut image = vec![0_u8; 1 << 20];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[4]); // setup_sects
    put(0x1f4, &(((1_u32 << 20) - 5 * 512) / 16).to_le_bytes()); // syssize
    put(0x1fe, &[0x55, 0xaa]); // boot_flag
    put(0x200, &[0xeb, 0x66]); // jump over the header
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes()); // version
    put(0x20e, &0x1000_u16.to_le_bytes()); // kernel_version, less 0x200
    put(0x211, &[1]); // loadflags: LOADED_HIGH
    put(0x214, &0x0010_0000_u32.to_le_bytes()); // code32_start
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
    put(0x230, &0x0020_0000_u32.to_le_bytes()); // kernel_alignment
    put(0x234, &[1]); // relocatable_kernel
    put(0x235, &[21]); // min_alignment
    put(0x236, &3_u16.to_le_bytes()); // xloadflags: 64-bit entry, above 4 GiB
    put(0x238, &2047_u32.to_le_bytes()); // cmdline_size
    put(0x258, &0x0100_0000_u64.to_le_bytes()); // pref_address
    put(0x260, &0x0100_0000_u32.to_le_bytes()); // init_size
    put(0x1200, b"6.1.0-none (builder@host) #1 SMP\0");
    image
}
