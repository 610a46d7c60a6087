# SPDX-License-Identifier: Apache-2.0
# Google's and Microsoft's token endpoints for tests, t/lib/cloud_server.py; methods in AIPTest::CloudServer, kinds and
# settings at the top of the server.
#
#   my $cloud = AIPTest::Cloud->start(port => port('SPARE_1'));
#   $cloud->service_account                 file of a service account; its token_uri is the server
#   $cloud->new_key                         another key: the file is replaced, the old key is no longer accepted
#   $cloud->gcp_chat_url, azure_chat_url    take only tokens of that cloud
#   $cloud->metadata_url                    Google's metadata server
#   $cloud->azure_token_url                 client credentials of TENANT
#   $cloud->imds_url, app_service_url       managed identities
#   $cloud->federated_token                 file with the token of a federated identity
#   TENANT, CLIENT_ID, CLIENT_SECRET, IDENTITY_HEADER
package AIPTest::Cloud;

use strict;
use warnings FATAL => 'all';
use parent -norequire, 'AIPTest::CloudServer';
use AIPTest::CloudServer ();
use AIPTest::Setup ();

use constant {
    TENANT          => '11111111-2222-3333-4444-555555555555',
    CLIENT_ID       => '66666666-7777-8888-9999-000000000000',
    CLIENT_SECRET   => 'client~secret/with+signs=',
    IDENTITY_HEADER => 'identity-header',
};

sub program         { return 'cloud_server' }
sub service_account { return "$AIPTest::Setup::t/state/service-account.$_[0]{port}.json" }
sub federated_token { return "$AIPTest::Setup::t/state/federated-token.$_[0]{port}" }
sub arguments       { return ('--service-account', $_[0]->service_account, '--federated-token', $_[0]->federated_token) }

sub gcp_chat_url {
    return $_[0]->url('/v1/projects/test-project/locations/global/endpoints/openapi/chat/completions');
}
sub azure_chat_url  { return $_[0]->url('/openai/v1/chat/completions') }
sub metadata_url    { return $_[0]->url('/computeMetadata/v1/instance/service-accounts/default/token') }
sub azure_token_url { return $_[0]->url('/' . TENANT . '/oauth2/v2.0/token') }
sub imds_url        { return $_[0]->url('/metadata/identity/oauth2/token') }
sub app_service_url { return $_[0]->url('/msi/token') }
sub new_key         { $_[0]->control('key'); return }

1;
