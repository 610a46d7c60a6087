# SPDX-License-Identifier: Apache-2.0
# AWS for tests, t/lib/aws_server.py; methods in AIPTest::CloudServer, kinds and settings at the top of the server.
#
#   my $aws = AIPTest::Aws->start(port => port('SPARE_1'));
#   $aws->chat_url                          the chat endpoint: signed for us-east-1, bedrock
#   AIPTest::Aws::ACCESS_KEY, SECRET_KEY    the keys that it knows
#   $aws->rotate('AKIANEW' => 'secret')     it knows these instead
#   ROLE, CONTAINER_TOKEN, WEB_IDENTITY_TOKEN
#   $aws->container_url                     for AWS_CONTAINER_CREDENTIALS_FULL_URI
package AIPTest::Aws;

use strict;
use warnings FATAL => 'all';
use parent -norequire, 'AIPTest::CloudServer';
use AIPTest::CloudServer ();

use constant {
    ACCESS_KEY         => 'AKIATESTTESTTEST0001',
    SECRET_KEY         => 'test/secret+0123456789abcdefABCDEF000000',
    ROLE               => 'arn:aws:iam::123456789012:role/gateway',
    CONTAINER_TOKEN    => 'container-token',
    WEB_IDENTITY_TOKEN => 'web-identity-token',
};

sub program       { return 'aws_server' }
sub chat_url      { return $_[0]->url('/openai/v1/chat/completions') }
sub container_url { return $_[0]->url('/v2/credentials/aip') }
sub rotate        { my ($self, %keys) = @_; $self->set(keys => \%keys); return }

1;
