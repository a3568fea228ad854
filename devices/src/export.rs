//! Joins the two layers that do not know each other: a virtio-fs device
//! serves requests, and a FUSE server answers them.

use fuse_backend_rs::transport::{Reader, VirtioFsWriter};

use crate::fuse::Server;
use crate::virtio::fs::RequestServer;

impl RequestServer for Server {
    fn may_block(&self, request: &Reader<'_>) -> bool {
        self.may_block(request)
    }

    fn answer(&self, request: Reader<'_>, reply: VirtioFsWriter<'_>) -> u32 {
        self.answer(request, reply)
    }

    fn reset(&self) {
        self.reset();
    }
}
