//! Rare events that the program itself reports, by aya-log, go into our own log.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Follows the program's log in a task of its own; needs a tokio runtime around it.
pub fn follow(ebpf: &mut Ebpf) -> Result<()> {
    let logger = EbpfLogger::init(ebpf).context("cannot open the program's log")?;
    // SAFETY: the logger's descriptor is the ring buffer's, which it keeps open as long as it
    // lives.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
        .context("cannot follow the program's log")?;
    tokio::spawn(async move {
        // An error here means that the map is gone, and with it the program.
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
