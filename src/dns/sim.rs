//! A network of name servers for tests, on the simulated clock. Each server is a closure: a
//! message in, packets out, each after some time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use hickory_proto::op::Message;

use crate::base::Deadline;
use crate::runtime;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Udp,
    Tcp,
}

/// What a server sends, and when.
pub type Packets = Vec<(Duration, Vec<u8>)>;

type Serve = Box<dyn FnMut(&Message, By) -> io::Result<Packets>>;

/// All servers, and what they were asked.
#[derive(Clone, Default)]
pub struct SimNet {
    servers: Rc<RefCell<HashMap<SocketAddr, Serve>>>,
    asked: Rc<RefCell<Vec<(SocketAddr, By, String)>>>,
}

/// One question's socket.
pub struct SimSocket {
    net: SimNet,
    to: SocketAddr,
    inbox: VecDeque<(Instant, Vec<u8>)>,
}

impl SimNet {
    pub fn serve(
        &self,
        at: SocketAddr,
        serve: impl FnMut(&Message, By) -> io::Result<Packets> + 'static,
    ) {
        self.servers.borrow_mut().insert(at, Box::new(serve));
    }

    /// What was asked so far: whom, how, and "name type".
    pub fn asked(&self) -> Vec<(SocketAddr, By, String)> {
        self.asked.borrow().clone()
    }

    pub fn connect(&self, to: SocketAddr) -> io::Result<SimSocket> {
        Ok(SimSocket {
            net: self.clone(),
            to,
            inbox: VecDeque::new(),
        })
    }

    pub async fn stream(
        &self,
        to: SocketAddr,
        query: &[u8],
        until: Deadline,
    ) -> io::Result<Vec<u8>> {
        let packets = self.deliver(to, query, By::Tcp)?;
        let Some((after, bytes)) = packets.into_iter().next() else {
            return wait(until.0).await;
        };
        let at = runtime::now() + after;
        if at >= until.0 {
            return wait(until.0).await;
        }
        runtime::sleep(after).await;
        Ok(bytes)
    }

    fn deliver(&self, to: SocketAddr, query: &[u8], by: By) -> io::Result<Packets> {
        let message = Message::from_vec(query).expect("we send proper messages");
        let asked = &message.queries[0];
        let text = format!(
            "{} {}",
            asked.name.to_lowercase().to_ascii(),
            asked.query_type
        );
        self.asked.borrow_mut().push((to, by, text));
        match self.servers.borrow_mut().get_mut(&to) {
            Some(serve) => serve(&message, by),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

impl SimSocket {
    pub fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let now = runtime::now();
        let packets = self.net.deliver(self.to, datagram, By::Udp)?;
        let packets = packets.into_iter();
        self.inbox
            .extend(packets.map(|(after, bytes)| (now + after, bytes)));
        Ok(())
    }

    pub async fn receive(&mut self, buffer: &mut [u8], until: Deadline) -> io::Result<usize> {
        match self.inbox.front() {
            Some((at, _)) if *at < until.0 => {}
            _ => return wait(until.0).await,
        }
        let (at, bytes) = self.inbox.pop_front().expect("looked at above");
        runtime::sleep(at.saturating_duration_since(runtime::now())).await;
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }
}

async fn wait<T>(until: Instant) -> io::Result<T> {
    runtime::sleep(until.saturating_duration_since(runtime::now())).await;
    Err(io::ErrorKind::TimedOut.into())
}
