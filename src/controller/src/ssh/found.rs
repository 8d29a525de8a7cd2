//! What a Spark's plan needs to know of its SSH server.

use futures::future::BoxFuture;
use sparks_api::Spark;
use sparks_plan::{
    known::Known,
    spark::{Observed, SshFound, key_sources},
};

use super::sources;
use crate::{api::ApiError, context::Context, driver::Act};

impl Act for Spark {
    fn enrich<'a>(
        context: &'a Context,
        this: &'a Known<Self>,
        seen: &'a mut Observed,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let keys = context.installation.keys();
            let (lines, problem) = sources::read(context, this.namespace(), &key_sources(seen)).await?;
            seen.ssh = SshFound {
                host_key: keys.host_key(&this.id.uid),
                gateway_keys: keys.gateway.clone(),
                user_ca_keys: keys.user_ca.clone(),
                lines,
                problem,
            };
            Ok(())
        })
    }
}
