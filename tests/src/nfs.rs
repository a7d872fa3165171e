//! `notefs serve nfs` as a process of its own, and a client that speaks to it call by call.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nfs3_types::mount::{self, dirpath, mountres3};
use nfs3_types::nfs3::{
    self, COMMIT3args, COMMIT3res, CREATE3args, CREATE3res, GETATTR3args, GETATTR3res, LOOKUP3args, LOOKUP3res,
    NFS_PROGRAM, Nfs3Option, Nfs3Result, READ3args, READ3res, REMOVE3args, REMOVE3res, WRITE3args, WRITE3res,
    WRITE3resok, createhow3, createverf3, diropargs3, nfs_fh3, nfsstat3, sattr3, stable_how, wcc_data,
};
use nfs3_types::rpc::{
    accept_stat_data, auth_unix, call_body, fragment_header, msg_body, opaque_auth, reply_body, rpc_msg,
};
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};

use crate::PATIENCE;
use crate::command::Notefs;
use crate::process::{self, Guarded, wait_until};
use crate::scratch;
use crate::store::Store;

/// A server with its daemon in the foreground.
#[derive(Debug)]
pub struct Served {
    store: Store,
    port: u16,
    cache: PathBuf,
    args: Vec<String>,
    notefs: Notefs,
    daemon: Option<Guarded>,
}

impl Served {
    /// Serves a store on a free port of loopback.
    pub fn start(store: &Store, args: &[&str]) -> Result<Served> {
        let home = scratch::folder("home")?;
        let mut served = Served {
            store: store.clone(),
            port: process::free_ports(1)?[0],
            cache: home.join("replica"),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            notefs: Notefs::new(&home, &store.env),
            daemon: None,
        };
        served.restart()?;
        Ok(served)
    }

    /// Serves again after an end or a kill: the same port, the same cache.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "still serving");
        let addr = format!("127.0.0.1:{}", self.port);
        let mut command = self
            .notefs
            .command(["serve", "nfs", self.store.url.as_str(), "--addr", &addr])?;
        command.arg("--cache").arg(&self.cache).args(&self.args);
        let log = self.cache.with_file_name("daemon.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        command.stdout(log.try_clone()?).stderr(log);
        self.daemon = Some(process::spawn(command)?);
        wait_until("NFS server that answers", PATIENCE, || {
            let status = self.notefs.json(&["status", &self.address(), "--json"]);
            status.map(drop).map_err(|error| format!("{error:#}"))
        })
    }

    /// What `notefs status` and `notefs unmount` call it.
    pub fn address(&self) -> String {
        format!("nfs://127.0.0.1:{}", self.port)
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The binary with this server's environment.
    pub fn notefs(&self) -> &Notefs {
        &self.notefs
    }

    /// Its cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Kills the daemon in the middle of whatever it does.
    pub fn kill9(&mut self) {
        self.daemon = None;
    }

    /// Ends the daemon in order; how it ended.
    pub fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        let mut daemon = self.daemon.take().context("not serving")?;
        daemon.signal(libc::SIGTERM);
        daemon.wait(PATIENCE)
    }

    /// A client of root's.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.port)
    }
}

/// One connection, and who speaks on it.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    xid: u32,
    /// The next calls' credentials; without, AUTH_NONE.
    pub user: Option<auth_unix>,
}

/// Credentials of a user.
pub fn user(uid: u32, gid: u32, gids: &[u32]) -> Option<auth_unix> {
    Some(auth_unix {
        uid,
        gid,
        gids: gids.to_vec(),
        ..auth_unix::default()
    })
}

/// What any value looks like on the wire.
pub fn pack(value: &impl Pack) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.pack(&mut bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(bytes)
}

fn unpack<T: Unpack>(bytes: &mut &[u8]) -> Result<T> {
    T::unpack(bytes)
        .map(|(value, _)| value)
        .map_err(|error| anyhow::anyhow!("{error}"))
}

impl Client {
    /// Connects to a server on loopback as root.
    pub fn connect(port: u16) -> Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client {
            stream,
            xid: 1,
            user: user(0, 0, &[]),
        })
    }

    /// The record of a call, with this number or the next one.
    pub fn record(&mut self, xid: Option<u32>, call: (u32, u32, u32), args: &impl Pack) -> Result<Vec<u8>> {
        self.xid += 1;
        let (prog, vers, proc) = call;
        let message = rpc_msg {
            xid: xid.unwrap_or(self.xid),
            body: msg_body::CALL(call_body {
                rpcvers: 2,
                prog,
                vers,
                proc,
                cred: self
                    .user
                    .as_ref()
                    .map_or_else(opaque_auth::default, opaque_auth::auth_unix),
                verf: opaque_auth::default(),
            }),
        };
        Ok([pack(&message)?, pack(args)?].concat())
    }

    /// Sends a record in one fragment.
    pub fn send(&mut self, record: &[u8]) -> Result<()> {
        let header = fragment_header::new(u32::try_from(record.len())?, true).into_xdr_buf();
        self.stream.write_all(&[&header[..], record].concat())?;
        Ok(())
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next record that the server sends.
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header)?;
        let header = fragment_header::from(header);
        ensure!(header.eof(), "a reply in several fragments");
        let mut record = vec![0; header.fragment_length() as usize];
        self.stream.read_exact(&mut record)?;
        Ok(record)
    }

    /// Sends a record, and tells whether the server has accepted it and what it answered.
    pub fn exchange(&mut self, record: &[u8]) -> Result<(accept_stat_data, Vec<u8>)> {
        self.send(record)?;
        let reply = self.receive()?;
        let mut rest = &reply[..];
        let message: rpc_msg<'_, '_> = unpack(&mut rest)?;
        ensure!(message.xid.to_be_bytes() == record[..4], "a reply to another call");
        match message.body {
            msg_body::REPLY(reply_body::MSG_ACCEPTED(accepted)) => Ok((accepted.reply_data, rest.to_vec())),
            other => bail!("not accepted: {other:?}"),
        }
    }

    /// A call of any program that must be accepted.
    pub fn call<T: Unpack>(&mut self, call: (u32, u32, u32), args: &impl Pack) -> Result<T> {
        let record = self.record(None, call, args)?;
        match self.exchange(&record)? {
            (accept_stat_data::SUCCESS, body) => {
                let mut rest = &body[..];
                let value = unpack(&mut rest)?;
                ensure!(rest.is_empty(), "{} bytes follow the result", rest.len());
                Ok(value)
            }
            (refused, _) => bail!("call {call:?} was refused: {refused:?}"),
        }
    }

    /// A call of NFS.
    pub fn nfs<T: Unpack>(&mut self, procedure: NFS_PROGRAM, args: &impl Pack) -> Result<T> {
        self.call((nfs3::PROGRAM, nfs3::VERSION, procedure as u32), args)
    }

    /// Mounts a path; its handle, or why not.
    pub fn mount(&mut self, path: &str) -> Result<Result<nfs_fh3, mount::mountstat3>> {
        let args = dirpath(Opaque::borrowed(path.as_bytes()));
        let mounted: mountres3<'_> = self.call((mount::PROGRAM, mount::VERSION, 1), &args)?;
        Ok(match mounted {
            mountres3::Ok(mounted) => Ok(nfs_fh3 {
                data: Opaque::owned(mounted.fhandle.0.to_vec()),
            }),
            mountres3::Err(status) => Err(status),
        })
    }

    /// The root's handle.
    pub fn root(&mut self) -> Result<nfs_fh3> {
        self.mount("/")?
            .map_err(|status| anyhow::anyhow!("the root cannot be mounted: {status}"))
    }

    /// The handle behind a name.
    pub fn lookup(&mut self, dir: &nfs_fh3, name: &str) -> Result<Result<nfs_fh3, nfsstat3>> {
        let args = LOOKUP3args { what: place(dir, name) };
        Ok(match self.nfs(NFS_PROGRAM::NFSPROC3_LOOKUP, &args)? {
            LOOKUP3res::Ok(found) => Ok(found.object),
            LOOKUP3res::Err((status, _)) => Err(status),
        })
    }

    /// Creates a file.
    pub fn create(&mut self, dir: &nfs_fh3, name: &str, how: createhow3) -> Result<Result<nfs_fh3, nfsstat3>> {
        let args = CREATE3args {
            where_: place(dir, name),
            how,
        };
        Ok(match self.nfs(NFS_PROGRAM::NFSPROC3_CREATE, &args)? {
            CREATE3res::Ok(made) => Ok(made.obj.unwrap()),
            CREATE3res::Err((status, _)) => Err(status),
        })
    }

    /// Writes, as stable as asked.
    pub fn write(
        &mut self,
        file: &nfs_fh3,
        offset: u64,
        data: &[u8],
        stable: stable_how,
    ) -> Result<Result<WRITE3resok, nfsstat3>> {
        let args = WRITE3args {
            file: file.clone(),
            offset,
            count: u32::try_from(data.len())?,
            stable,
            data: Opaque::borrowed(data),
        };
        Ok(match self.nfs(NFS_PROGRAM::NFSPROC3_WRITE, &args)? {
            WRITE3res::Ok(written) => Ok(written),
            WRITE3res::Err((status, _)) => Err(status),
        })
    }

    /// Reads; the bytes and whether that was the end.
    pub fn read(&mut self, file: &nfs_fh3, offset: u64, count: u32) -> Result<Result<(Vec<u8>, bool), nfsstat3>> {
        let args = READ3args {
            file: file.clone(),
            offset,
            count,
        };
        let result: READ3res<'_> = self.nfs(NFS_PROGRAM::NFSPROC3_READ, &args)?;
        Ok(match result {
            Nfs3Result::Ok(read) => Ok((read.data.to_vec(), read.eof)),
            Nfs3Result::Err((status, _)) => Err(status),
        })
    }
}

/// A name in a directory.
pub fn place<'a>(dir: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
    diropargs3 {
        dir: dir.clone(),
        name: name.as_bytes().into(),
    }
}

/// A creation that keeps what is there.
pub fn plain(mode: u32) -> createhow3 {
    createhow3::UNCHECKED(sattr3 {
        mode: Nfs3Option::Some(mode),
        ..sattr3::default()
    })
}

/// An exclusive creation.
pub fn exclusive(verifier: u8) -> createhow3 {
    createhow3::EXCLUSIVE(createverf3([verifier; 8]))
}

/// The result, or the status as an error.
pub fn went_well<T>(result: Result<T, nfsstat3>) -> Result<T> {
    result.map_err(|status| anyhow::anyhow!("answered {status}"))
}

/// GETATTR.
pub fn getattr(client: &mut Client, file: &nfs_fh3) -> Result<Result<nfs3::fattr3, nfsstat3>> {
    let args = GETATTR3args { object: file.clone() };
    let result: GETATTR3res = client.nfs(NFS_PROGRAM::NFSPROC3_GETATTR, &args)?;
    Ok(match result {
        Nfs3Result::Ok(found) => Ok(found.obj_attributes),
        Nfs3Result::Err((status, _)) => Err(status),
    })
}

/// REMOVE; the attributes around it.
pub fn remove(client: &mut Client, dir: &nfs_fh3, name: &str) -> Result<Result<wcc_data, nfsstat3>> {
    let args = REMOVE3args {
        object: place(dir, name),
    };
    let result: REMOVE3res = client.nfs(NFS_PROGRAM::NFSPROC3_REMOVE, &args)?;
    Ok(match result {
        Nfs3Result::Ok(removed) => Ok(removed.dir_wcc),
        Nfs3Result::Err((status, _)) => Err(status),
    })
}

/// COMMIT of all; the write verifier.
pub fn commit(client: &mut Client, file: &nfs_fh3) -> Result<nfs3::writeverf3> {
    let args = COMMIT3args {
        file: file.clone(),
        offset: 0,
        count: 0,
    };
    let result: COMMIT3res = client.nfs(NFS_PROGRAM::NFSPROC3_COMMIT, &args)?;
    match result {
        Nfs3Result::Ok(committed) => Ok(committed.verf),
        Nfs3Result::Err((status, _)) => bail!("COMMIT answered {status}"),
    }
}
