//! stub
#![allow(missing_docs)]
use crate::config::spec::ServiceSpec;
use crate::ids::*;
use crate::secret::Secret;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
pub trait Tenants: Send + Sync + 'static {
    type Tenant: Tenant;
    fn hash(&self, id: &str) -> [u8; 32];
    fn find(&self, hash: &[u8; 32]) -> Option<Self::Tenant>;
    fn refuse(&self, hash: [u8; 32]) -> impl Future<Output = ()> + Send;
    fn owner_of_token(&self, token: &str) -> impl Future<Output = Option<UserId>> + Send;
}
pub trait Tenant: Clone + Send + Sync + 'static {
    fn public(&self) -> &PublicId;
    fn user(&self) -> &UserId;
    fn service(&self) -> &ServiceType;
    fn field(&self, name: &str) -> Option<&str>;
    fn touch(&self);
    fn revoked(&self) -> impl Future<Output = ()> + Send + 'static;
}
pub struct RouterConfig {
    pub max_body: u64,
    pub require_auth_all: bool,
    pub hosts: Option<Vec<String>>,
}
pub enum Routable {
    Ready,
    Starting,
    Down,
    PortTaken,
}
pub struct ServiceEntry(ServiceType);
impl ServiceEntry {
    pub fn new(
        spec: Arc<ServiceSpec>,
        _s: Routable,
        _r: Secret<String>,
        _g: u64,
        _p: Option<&ServiceEntry>,
    ) -> Self {
        Self(spec.service.clone())
    }
}
#[derive(Default)]
pub struct ServiceTable(HashMap<ServiceType, Arc<ServiceEntry>>);
impl ServiceTable {
    pub fn new(it: impl Iterator<Item = ServiceEntry>) -> Self {
        Self(it.map(|e| (e.0.clone(), Arc::new(e))).collect())
    }
    pub fn get(&self, s: &ServiceType) -> Option<&Arc<ServiceEntry>> {
        self.0.get(s)
    }
}
pub struct Router<T>(Arc<(axum::Router, T)>);
impl<T> Clone for Router<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
impl<T: Tenants> Router<T> {
    pub fn new(_c: RouterConfig, _s: Arc<ArcSwap<ServiceTable>>, t: T, api: axum::Router) -> Self {
        Self(Arc::new((api, t)))
    }
    pub async fn serve(
        &self,
        l: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        tokio::pin!(shutdown);
        loop {
            tokio::select! { () = &mut shutdown => return, a = l.accept() => { if let Ok((s,_)) = a { let svc = hyper_util::service::TowerToHyperService::new(self.0.0.clone()); tokio::spawn(async move { let _ = hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(s), svc).await; }); } } }
        }
    }
    pub async fn drain(&self, _d: Duration) -> usize {
        0
    }
}
