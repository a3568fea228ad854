//! Our server, over memory as a guest's is.

use std::path::Path;
use std::sync::Arc;

use devices::fuse::Server;
use devices::passthrough::{Config, Passthrough};
use tests::native::buffers::Buffers;
use tests::native::driver::Request;

use crate::client::Transport;

pub(crate) struct Ours {
    server: Server,
    buffers: Buffers,
}

impl Ours {
    pub(crate) fn new(root: &Path, config: Config) -> Self {
        let fs = Passthrough::new(root, config).unwrap();
        Self {
            server: Server::new(Arc::new(fs)),
            buffers: Buffers::new().unwrap(),
        }
    }
}

impl Transport for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let request = Request::read(bytes, bytes.len()).unwrap();
        self.buffers.put(bytes).unwrap();
        let length = self.buffers.answer(&self.server, &request).unwrap();
        self.buffers.reply(length).unwrap()
    }
}
