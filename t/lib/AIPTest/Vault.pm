# SPDX-License-Identifier: Apache-2.0
# A real Vault of the test's own (t/vault, built by scripts/lib/vault.sh), ended with the test. Needs AIP_VAULT_DIR and curl.
#
#   my $v = AIPTest::Vault->start;             # or tls => 1, port => port('SPARE_1'), token => 'root token'
#   $v->url;  $v->port;  $v->token;            # with tls: $v->ca is the authority's file
#   $v->write('a/b', {key => 'value'});        # secret/ (kv version 2); returns the version
#   $v->write1('a/b', {key => 'value'});       # kv1/ (kv version 1)
#   $v->delete('a/b');                         # the latest version at secret/
#   my ($status, $json) = $v->api('GET', 'kv1/a/b', undef, 'X-Vault-Token' => $token);   # undef: without a token
#   my $json = $v->call('POST', 'sys/...', {...});                                       # the same, dies unless it succeeds
#   $v->api('POST', 'auth/cert/login', {}, '--cert' => $pem, '--key' => $key);           # "--..." is an option of curl
#
#   $v->policy('reader', 'secret/data/a/*' => ['read'], ...);
#   my $token = $v->token_create(ttl => '2s', policies => ['reader']);                   # in list context: with its accessor
#   my ($role_id, $secret_id) = $v->approle('r', token_policies => ['reader'], token_ttl => '5s');
#   my $secret_id = $v->secret_id('r');        my $wrapping_token = $v->secret_id('r', '60s');
#   $v->userpass('name', 'password', token_policies => [...]);
#   $v->cert_role('r', $ca_file, token_policies => [...]);     # a certificate that stands below or is that one
#   $v->kubernetes('r', token_policies => [...]);              # service accounts in the namespace "gateway"; then
#   my $jwt = $v->service_account('gateway', 'httpd');         # genuine until service_account_gone($jwt)
#   my $token = $v->login('approle', {role_id => ..., secret_id => ...});                # dies when it is refused
#
#   $v->seal;  $v->unseal;  $v->pause;  $v->resume;  $v->stop;
#   $v->restart;                               # on the same port, empty: the data were in memory. Works after stop, too
#   $v->mark;  my @r = $v->requests;  my $n = $v->count('GET', 'secret/data/a');   # since the mark, without our own calls
package AIPTest::Vault;

use strict;
use warnings FATAL => 'all';
use JSON::PP ();
use MIME::Base64 qw(encode_base64);

use AIPTest ();
use AIPTest::CA ();
use AIPTest::Setup ();

my $json = JSON::PP->new->ascii->canonical->allow_nonref;
my @names = qw(VAULT_1 VAULT_2 VAULT_3);
my @all;

# What our own calls say in X-Vault-Namespace, which this Vault ignores and logs: so they can be told from the gateway's.
my $self_mark = 'aip-test-helper';

sub start {
    my ($class, %opt) = @_;
    my $dir = "$AIPTest::Setup::t/state/vault.$$." . (@all + 1);
    mkdir $dir, 0700 or die "$dir: $!\n";
    my $port = $opt{port} // AIPTest::port(shift @names // die "no port left for another Vault\n");
    my $token = $opt{token} // 'root-' . join '', map { sprintf '%x', rand 16 } 1 .. 24;
    my $self  = bless {dir => $dir, port => $port, token => $token}, $class;
    $self->{tls} = certificates() if $opt{tls};
    push @all, $self;
    return $self->launch;
}

sub certificates { return AIPTest::CA->new("$AIPTest::Setup::t/state/tls") }

sub launch {
    my ($self) = @_;
    $ENV{AIP_VAULT_DIR} or die "AIP_VAULT_DIR is not set\n";
    AIPTest::Setup::write_file("$self->{dir}/requests", '');
    $self->{from} = 0;
    my @command = (
        "$ENV{AIP_VAULT_DIR}/dist/testvault", '-listen', "127.0.0.1:$self->{port}", '-root-token', $self->{token},
        '-log', "$self->{dir}/requests", '-unseal-key-file', "$self->{dir}/unseal"
    );
    push @command, '-tls-cert', $self->{tls}->path('server.pem'), '-tls-key', $self->{tls}->path('server.key') if $self->{tls};
    $self->{pid} = AIPTest::Setup::spawn("$AIPTest::Setup::t/logs/vault_log", @command);
    return $self;
}

sub port  { return $_[0]{port} }
sub token { return $_[0]{token} }
sub ca    { return $_[0]{tls}->path('ca.pem') }
sub url   { return ($_[0]{tls} ? 'https' : 'http') . "://127.0.0.1:$_[0]{port}" }

# ---- calls ----

sub quoted { return '"' . ($_[0] =~ s/([\\"])/\\$1/gr) . '"' }

# Everything goes through curl's standard input: a command line would show tokens to all users of the machine.
sub api {
    my ($self, $method, $path, $body, %more) = @_;
    my %option = (request => $method, url => $self->url . "/v1/$path", 'max-time' => 10);
    my %header = ('X-Vault-Token' => $self->{token}, 'X-Vault-Namespace' => $self_mark);
    $option{cacert} = $self->ca if $self->{tls};
    if (defined $body) {
        $option{data} = ref $body ? $json->encode($body) : $body;
        $header{'Content-Type'} = 'application/json';
    }
    for my $name (keys %more) {
        $name =~ /^--(.+)/ ? $option{$1} = $more{$name} : ($header{$name} = $more{$name});
    }
    my $config = join '', map { "$_ = " . quoted($option{$_}) . "\n" } sort keys %option;
    $config .= 'header = ' . quoted("$_: $header{$_}") . "\n" for grep { defined $header{$_} } sort keys %header;
    my ($status, $out, $err) = AIPTest::run_command(['curl', '-q', '-sS', '-w', '\n%{http_code}', '-K', '-'], $config);
    $status == 0 or die "vault: $method $path: $err\n";
    my ($text, $code) = $out =~ /^(.*)\n(\d+)\z/s or die "vault: $method $path: $out\n";
    return ($code + 0, $text =~ /\S/ ? JSON::PP->new->utf8->allow_nonref->decode($text) : undef);
}

sub call {
    my ($self, $method, $path, @more) = @_;
    my ($status, $answer) = $self->api($method, $path, @more);
    $status < 300 or die "vault: $method $path: $status " . $json->encode($answer) . "\n";
    return $answer;
}

sub write {
    my ($self, $path, $data) = @_;
    return $self->call('POST', "secret/data/$path", {data => $data})->{data}{version};
}

sub write1 {
    my ($self, $path, $data) = @_;
    $self->call('POST', "kv1/$path", $data);
    return;
}

sub delete {
    my ($self, $path) = @_;
    $self->call('DELETE', "secret/data/$path");
    return;
}

# ---- who may what ----

sub policy {
    my ($self, $name, %may) = @_;
    my $text = join '', map { qq(path "$_" { capabilities = ) . $json->encode($may{$_}) . " }\n" } sort keys %may;
    $self->call('PUT', "sys/policies/acl/$name", {policy => $text});
    return;
}

sub token_create {
    my ($self, %opt) = @_;
    my $auth = $self->call('POST', 'auth/token/create', {no_default_policy => JSON::PP::false, %opt})->{auth};
    return wantarray ? ($auth->{client_token}, $auth->{accessor}) : $auth->{client_token};
}

sub approle {
    my ($self, $role, %opt) = @_;
    $self->call('POST', "auth/approle/role/$role", \%opt);
    my $id = $self->call('GET', "auth/approle/role/$role/role-id")->{data}{role_id};
    return ($id, $self->secret_id($role));
}

# With WRAP, a time to live: the token that can be exchanged for the secret id, once.
sub secret_id {
    my ($self, $role, $wrap) = @_;
    my $answer = $self->call('POST', "auth/approle/role/$role/secret-id", {}, 'X-Vault-Wrap-TTL' => $wrap);
    return $wrap ? $answer->{wrap_info}{token} : $answer->{data}{secret_id};
}

sub userpass {
    my ($self, $user, $password, %opt) = @_;
    $self->call('POST', "auth/userpass/users/$user", {password => $password, %opt});
    return;
}

sub cert_role {
    my ($self, $role, $file, %opt) = @_;
    $self->call('POST', "auth/cert/certs/$role", {certificate => AIPTest::slurp($file), %opt});
    return;
}

# The cluster that reviews tokens is a fake, one for each test; the rest is Vault's own.
sub kubernetes {
    my ($self, $role, %opt) = @_;
    if (!$self->{reviewer}) {
        my $port = AIPTest::port('VAULT_REVIEW');
        my $ca   = certificates();
        my $reviewer = $self->new_jwt('kube-system', 'vault');
        AIPTest::Setup::write_file("$self->{dir}/genuine", '');
        $self->{reviewer} = AIPTest::Setup::spawn(
            "$AIPTest::Setup::t/logs/vault_log", 'python3', "$AIPTest::Setup::t/lib/token_review.py", $port, "$self->{dir}/genuine", $reviewer,
            $ca->path('server.pem'), $ca->path('server.key'));
        $self->{kubernetes} = {
            kubernetes_host => "https://127.0.0.1:$port", kubernetes_ca_cert => AIPTest::slurp($ca->path('ca.pem')),
            token_reviewer_jwt => $reviewer, disable_local_ca_jwt => JSON::PP::true
        };
    }
    $self->call('POST', 'auth/kubernetes/config', $self->{kubernetes});
    $self->call('POST', "auth/kubernetes/role/$role",
        {bound_service_account_names => '*', bound_service_account_namespaces => 'gateway', %opt});
    return;
}

sub base64url { return encode_base64($_[0], '') =~ tr{+/=}{-_}dr }

# As a pod has it in /var/run/secrets/kubernetes.io/serviceaccount/token. The key of the cluster is made once.
sub new_jwt {
    my ($self, $namespace, $name) = @_;
    my $key = "$self->{dir}/cluster.key";
    if (!-e $key) {
        my ($status, undef, $err) = AIPTest::run_command([qw(openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out), $key]);
        $status == 0 or die "openssl: $err\n";
    }
    my $now = time;
    my $text = join '.', map { base64url($json->encode($_)) } {alg => 'RS256', typ => 'JWT'}, {
        iss => 'https://kubernetes.default.svc.cluster.local', aud => ['https://kubernetes.default.svc.cluster.local'],
        sub => "system:serviceaccount:$namespace:$name", iat => $now, nbf => $now, exp => $now + 3600, jti => ++$self->{jwts} . '',
        'kubernetes.io' => {namespace => $namespace, serviceaccount => {name => $name, uid => "uid-of-$namespace-$name"}}
    };
    my ($status, $signature, $err) = AIPTest::run_command(['openssl', 'dgst', '-sha256', '-sign', $key], $text);
    $status == 0 or die "openssl: $err\n";
    return "$text." . base64url($signature);
}

sub service_account {
    my ($self, $namespace, $name) = @_;
    my $jwt = $self->new_jwt($namespace, $name);
    AIPTest::Setup::write_file("$self->{dir}/genuine", AIPTest::slurp("$self->{dir}/genuine") . "$jwt\n");
    return $jwt;
}

sub service_account_gone {
    my ($self, $jwt) = @_;
    my @left = grep { $_ ne $jwt } split /\n/, AIPTest::slurp("$self->{dir}/genuine");
    AIPTest::Setup::write_file("$self->{dir}/genuine", join '', map {"$_\n"} @left);
    return;
}

# Logs in as the gateway would; METHOD is what stands before /login, or the whole of it. The token; in list context with the
# answer that it came in.
sub login {
    my ($self, $method, $body, %more) = @_;
    $method .= '/login' unless $method =~ m{/login};
    my $answer = $self->call('POST', "auth/$method", $body, 'X-Vault-Token' => undef, %more);
    return wantarray ? ($answer->{auth}{client_token}, $answer) : $answer->{auth}{client_token};
}

# ---- its life ----

sub seal { $_[0]->call('PUT', 'sys/seal'); return }

sub unseal {
    my ($self) = @_;
    $self->call('PUT', 'sys/unseal', {key => AIPTest::slurp("$self->{dir}/unseal") =~ s/\s+//r}, 'X-Vault-Token' => undef);
    # Unsealed is not yet active: the core reads its mounts in between.
    AIPTest::wait_until('an active Vault', sub { ($self->api('GET', 'sys/health'))[0] == 200 });
    return;
}

# It accepts connections, as the kernel does for it, and does not answer.
sub pause { return kill 'STOP', $_[0]{pid} }

sub resume { return kill 'CONT', $_[0]{pid} }

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill 'TERM', $pid;
    kill 'CONT', $pid;
    waitpid $pid, 0;
    return;
}

sub restart {
    my ($self) = @_;
    $self->stop;
    return $self->launch;
}

END {
    local $?;
    for my $self (@all) {
        $self->stop;
        next unless $self->{reviewer};
        kill 'TERM', $self->{reviewer};
        waitpid $self->{reviewer}, 0;
    }
}

# ---- what it was asked ----

sub mark {
    my ($self) = @_;
    $self->{from} = -s "$self->{dir}/requests";
    return;
}

# {method, path, namespace, client}; the path without /v1/.
sub requests {
    my ($self) = @_;
    my @lines = map { JSON::PP->new->utf8->decode($_) } split /\n/, AIPTest::slurp("$self->{dir}/requests", $self->{from});
    $_->{path} =~ s{^/v1/}{} for @lines;
    return grep { ($_->{namespace} // '') ne $self_mark } @lines;
}

sub count {
    my ($self, $method, $path) = @_;
    return scalar grep { $_->{method} eq $method && $_->{path} eq $path } $self->requests;
}

1;
