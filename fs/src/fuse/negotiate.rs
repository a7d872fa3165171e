//! What is agreed with the kernel when a mount begins.

use super::notify::time_to_live;
use fuser::{InitFlags, KernelConfig};
use std::time::Duration;

/// Requests that the kernel may have under way on its own account, such as reading ahead.
const BACKGROUND_REQUESTS_MAX: u16 = 64;

/// What is asked of the kernel, as far as it can.
pub(super) const CAPABILITIES: [InitFlags; 9] = [
    InitFlags::FUSE_HANDLE_KILLPRIV_V2, // else it asks for security.capability before each write
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
];

/// Asks for all that the kernel has to offer of it; answers how long names and attributes may be remembered.
pub(super) fn negotiate(config: &mut KernelConfig) -> Duration {
    for capability in CAPABILITIES {
        if let Err(missing) = config.add_capabilities(capability) {
            tracing::info!(?missing, "The kernel lacks a capability");
        }
    }
    let _previous = config.set_max_background(BACKGROUND_REQUESTS_MAX); // refused only if it were 0
    time_to_live(config.kernel_abi())
}
