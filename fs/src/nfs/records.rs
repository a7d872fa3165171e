//! Records on a TCP stream (RFC 5531, section 11): fragments come in, bounded; replies go out, several at a time.

use bytes::{Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedReceiver;

/// Bytes of content in one READ or WRITE.
pub(super) const TRANSFER_MAX_BYTES: u32 = 1 << 20;

/// The largest record that is taken: the largest WRITE and its headers.
pub(super) const RECORD_MAX_BYTES: usize = TRANSFER_MAX_BYTES as usize + 4096;

/// Fragments of one record.
const FRAGMENTS_MAX: usize = 64;

/// How long a peer that has begun a record may take to end it.
const RECORD_DEADLINE_SECONDS: u64 = 60;

/// Small records are read from, and small replies written to, the socket together.
const BUFFER_BYTES: usize = 64 << 10;

const LAST_FRAGMENT: u32 = 1 << 31;

/// A reply as it goes out, with its fragment header; its share of what may be in flight ends when it is written.
pub(super) type Outgoing = (Bytes, Option<OwnedSemaphorePermit>);

/// The records of one connection.
pub(super) struct Records<R> {
    stream: BufReader<R>,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Records<R> {
    pub(super) fn new(stream: R) -> Records<R> {
        Records {
            stream: BufReader::with_capacity(BUFFER_BYTES, stream),
            buffer: BytesMut::new(),
        }
    }

    /// The next record; `None` when the peer has ended the connection between two records.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let header = match self.stream.read_u32().await {
            Ok(header) => header,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let deadline = Duration::from_secs(RECORD_DEADLINE_SECONDS);
        match tokio::time::timeout(deadline, self.fragments(header)).await {
            Ok(Ok(())) => Ok(Some(self.buffer.split().freeze())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn fragments(&mut self, mut header: u32) -> io::Result<()> {
        for _ in 0..FRAGMENTS_MAX {
            let length = (header & !LAST_FRAGMENT) as usize;
            if self.buffer.len() + length > RECORD_MAX_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a record is too long"));
            }
            self.buffer.reserve(length);
            let mut missing = length;
            while missing > 0 {
                let mut fragment = (&mut self.stream).take(missing as u64);
                match fragment.read_buf(&mut self.buffer).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => missing -= count,
                }
            }
            if header & LAST_FRAGMENT != 0 {
                return Ok(());
            }
            header = self.stream.read_u32().await?;
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a record has too many fragments",
        ))
    }
}

/// Writes replies until the last one who could send some is gone. A peer that takes none any more loses them.
pub(super) async fn write_replies(mut stream: impl AsyncWrite + Unpin, mut replies: UnboundedReceiver<Outgoing>) {
    let mut together = BytesMut::new();
    let mut broken = false;
    while let Some((first, permit)) = replies.recv().await {
        let mut permits = vec![permit];
        // What carries content goes out as it is, small replies are gathered.
        let mut large = (first.len() >= BUFFER_BYTES).then_some(first.clone());
        if large.is_none() {
            together.extend_from_slice(&first);
        }
        while large.is_none()
            && together.len() < BUFFER_BYTES
            && let Ok((bytes, permit)) = replies.try_recv()
        {
            permits.push(permit);
            if bytes.len() >= BUFFER_BYTES {
                large = Some(bytes);
            } else {
                together.extend_from_slice(&bytes);
            }
        }
        for bytes in [Some(together.split().freeze()), large].into_iter().flatten() {
            if !broken && let Err(error) = stream.write_all(&bytes).await {
                tracing::debug!("An NFS client takes no more replies: {error}");
                broken = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(bytes: &[u8]) -> Vec<Result<Bytes, io::ErrorKind>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut records = Records::new(bytes);
            let mut all = Vec::new();
            loop {
                match records.next().await {
                    Ok(Some(record)) => all.push(Ok(record)),
                    Ok(None) => return all,
                    Err(error) => {
                        all.push(Err(error.kind()));
                        return all;
                    }
                }
            }
        })
    }

    #[test]
    fn fragments_make_records() {
        let stream = [&[0, 0, 0, 2, b'a', b'b'][..], &[0x80, 0, 0, 1, b'c'], &[0x80, 0, 0, 0]].concat();
        assert_eq!(records(&stream), [Ok(Bytes::from("abc")), Ok(Bytes::new())]);
    }

    #[test]
    fn a_record_that_is_too_long_or_cut_ends_the_connection() {
        assert_eq!(records(&[0xff, 0xff, 0xff, 0xff]), [Err(io::ErrorKind::InvalidData)]);
        assert_eq!(records(&[0x80, 0, 0, 9, 1]), [Err(io::ErrorKind::UnexpectedEof)]);
        let endless = [0; 4 * (FRAGMENTS_MAX + 1)];
        assert_eq!(records(&endless), [Err(io::ErrorKind::InvalidData)]);
    }
}
